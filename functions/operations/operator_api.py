"""What an operator looks at when something went wrong: sagas and dead letters (G-07, Q-05)."""

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
"""The largest number PostgreSQL could have given to a letter."""

api = Api()
handler = api.handler


@api.route("GET", "/sagas")
def list_sagas(
    tx: Tx,
    query: Listed,
    status: Annotated[SagaStatus | None, Query(description="only sagas in this state")] = None,
) -> Page[SagaSummary | dict[str, Any]]:
    """List sagas, newest first; `status=manual_intervention` shows those that wait for a person."""
    return interventions.sagas(tx, query.also("status", status))


@api.route("GET", "/sagas/<saga_id>")
def get_saga(saga_id: str, tx: Tx) -> Timeline:
    """Get the timeline of a saga: its steps, attempts, compensations, events and spans."""
    found = timeline.find(tx, saga_id)
    if found is None:
        raise NotFound("no such saga")
    return found


@api.route("POST", "/sagas/<saga_id>/resolve", problems=(409,))
def resolve_saga(saga_id: str, resolution: Resolution, caller: Caller, tx: Tx) -> Intervention:
    """Take a saga that waits for a person for compensated; who and why is kept.

    Nothing is run: undo by hand what the saga left, then say so here. What the saga was about
    ends with it: a batch fails, with your note.
    """
    intervention = interventions.resolve(tx, saga_id, caller.actor_id, resolution)
    state = SagaLog(tx, saga_id).state()
    if state is not None and state.kind in contexts().sagas:
        contexts().sagas[state.kind].end()(tx, saga_id, resolution.note)
    return intervention


@api.route("GET", "/dead-letters")
def list_dead_letters(
    tx: Tx,
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[DeadLetter]:
    """List events that could not be sent, newest first, with error and time."""
    total, letters = dead_letters.newest(tx, page, page_size)
    return Page(items=letters, page=page, page_size=page_size, total=total)


@api.route("POST", "/dead-letters/<dead_letter_id>/replay", problems=(409,), status=202)
def replay_dead_letter(
    dead_letter_id: Annotated[int, Path(ge=1, le=MAX_BIGINT)], caller: Caller, tx: Tx
) -> DeadLetter:
    """Send an event once more; the letter keeps who asked for it and when."""
    return dead_letters.replay(tx, dead_letter_id, caller.actor_id)
