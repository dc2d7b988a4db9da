"""Sagas that wait for a person, and what that person did about them (G-07, G-16)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from skald.errors import Conflict, NotFound, Problem
from skald.listing import ListQuery, Page, Resource
from skald.postgres import Transaction
from skald.saga.log import SagaLog, SagaStatus

# A sign that can be read; PostgreSQL's text cannot hold NUL.
type Note = Annotated[str, Field(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$", max_length=2000)]


class SagaRecord(BaseModel):
    """What a saga's row says of it."""

    saga_id: str
    kind: str
    status: SagaStatus
    execution: str | None
    trace_id: str
    error_message: str | None
    recoveries: int
    started_at: datetime
    completed_at: datetime | None


class SagaSummary(SagaRecord):
    """A saga in a list."""

    updated_at: datetime


class Resolution(BaseModel):
    """Why a person takes a saga for compensated: what was found, what was done by hand."""

    note: Note


class Intervention(BaseModel):
    """Who resolved a saga, when and why; `actor_id` names the API key."""

    saga_id: str
    actor_id: str
    note: str
    resolved_at: datetime


_SAGAS = Resource(
    SagaSummary,
    ("skald", "saga_transactions"),
    key="saga_id",
    sort="-started_at",
    sortable=["started_at", "updated_at", "kind", "status"],
    filterable=["kind", "status", "trace_id", "started_at", "updated_at", "recoveries"],
)


def sagas(transaction: Transaction, query: ListQuery) -> Page[SagaSummary | dict[str, Any]]:
    """Return one page of sagas; raises `InvalidInput` as `Resource.page` does."""
    return _SAGAS.page(transaction, query)


def find(transaction: Transaction, saga_id: str) -> Intervention | None:
    return transaction.one(
        Intervention,
        "select saga_id, actor_id, note, resolved_at from skald.interventions"
        " where tenant_id = %s and saga_id = %s",
        (transaction.tenant_id, saga_id),
    )


def resolve(
    transaction: Transaction, saga_id: str, actor_id: str, resolution: Resolution
) -> Intervention:
    """Take a saga that waits for a person for compensated, and keep who said so and why.

    Nothing is run: the person has done what was to be done. Raises `NotFound`, and `Conflict` when
    the saga waits for nobody, or another was faster.
    """
    log = SagaLog(transaction, saga_id)
    if not log.move(SagaStatus.COMPENSATED, SagaStatus.MANUAL_INTERVENTION):
        raise _refusal(transaction, log, saga_id)
    made = transaction.one(
        Intervention,
        "insert into skald.interventions (tenant_id, saga_id, actor_id, note)"
        " values (%s, %s, %s, %s) returning saga_id, actor_id, note, resolved_at",
        (transaction.tenant_id, saga_id, actor_id, resolution.note),
    )
    assert made is not None  # noqa: S101  # an insert without conflict clause returns its row
    return made


def _refusal(transaction: Transaction, log: SagaLog, saga_id: str) -> Problem:
    state = log.state()
    if state is None:
        return NotFound("no such saga")
    earlier = find(transaction, saga_id)
    if earlier is not None:
        return Conflict(f"this saga was resolved by {earlier.actor_id}")
    return Conflict(f"this saga is {state.status} and waits for nobody")
