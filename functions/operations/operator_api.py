"""HTTP routes for an operator: sagas and dead letters (G-07, Q-05)."""

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Path, Query

from operations.contexts import contexts
from skald.entrypoints.http import Api, Caller, Listed, Tx
from skald.errors import NotFound
from skald.listing import Page
from skald.messaging import dead_letters
from skald.messaging.dead_letters import DeadLetter
from skald.saga import SagaLog, SagaStatus, interventions, timeline
from skald.saga.interventions import Intervention, Resolution, SagaSummary
from skald.saga.timeline import Timeline

MAX_BIGINT = 2**63 - 1
"""The largest id of a letter in PostgreSQL."""

SagaId = Annotated[str, Path(description="The id of the saga; that of a batch is the batch's id.")]
LetterId = Annotated[int, Path(ge=1, le=MAX_BIGINT, description="The number of the letter.")]

api = Api()
handler = api.handler


@api.route("GET", "/sagas")
def list_sagas(
    tx: Tx,
    query: Listed,
    status: Annotated[SagaStatus | None, Query(description="Only sagas in this state.")] = None,
) -> Page[SagaSummary | dict[str, Any]]:
    """List sagas, newest first. `status=manual_intervention` finds those that wait for a person."""
    return interventions.sagas(tx, query.also("status", status))


@api.route("GET", "/sagas/<saga_id>")
def get_saga(saga_id: SagaId, tx: Tx) -> Timeline:
    """Get the timeline of a saga: its steps, attempts, compensations, events and spans."""
    found = timeline.find(tx, saga_id)
    if found is None:
        raise NotFound("no such saga")
    return found


@api.route("POST", "/sagas/<saga_id>/resolve", problems=(409,))
def resolve_saga(saga_id: SagaId, resolution: Resolution, caller: Caller, tx: Tx) -> Intervention:
    """End a saga that waits for a person. Your key and your note are kept.

    This runs no compensation: first undo by hand what the saga left. What the saga
    worked on, such as a batch, fails with your note.
    """
    intervention = interventions.resolve(tx, saga_id, caller.actor_id, resolution)
    state = SagaLog(tx, saga_id).state()
    if state is not None and state.kind in contexts().sagas:
        contexts().sagas[state.kind].end()(tx, saga_id, resolution.note)
    return intervention


@api.route("GET", "/dead-letters")
def list_dead_letters(
    tx: Tx,
    page: Annotated[int, Query(ge=1, le=100_000, description="The page, from 1.")] = 1,
    page_size: Annotated[int, Query(ge=1, le=100, description="Items a page.")] = 20,
) -> Page[DeadLetter]:
    """List events and messages that could not be delivered, newest first."""
    total, letters = dead_letters.newest(tx, page, page_size)
    return Page(items=letters, page=page, page_size=page_size, total=total)


@api.route("POST", "/dead-letters/<dead_letter_id>/replay", problems=(409,), status=202)
def replay_dead_letter(dead_letter_id: LetterId, caller: Caller, tx: Tx) -> DeadLetter:
    """Send an event again. The letter keeps your key and the time."""
    return dead_letters.replay(tx, dead_letter_id, caller.actor_id)
