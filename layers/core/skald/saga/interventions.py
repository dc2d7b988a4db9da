"""Sagas that wait for a person, and how the person resolved them (G-07, G-16)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from skald.errors import Conflict, NotFound, Problem
from skald.listing import ListQuery, Page, Resource
from skald.postgres import Transaction
from skald.saga.log import SagaLog, SagaStatus

# At least one visible character; the text type of PostgreSQL holds no NUL.
type Note = Annotated[str, Field(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$", max_length=2000)]


class SagaRecord(BaseModel):
    """A saga and its state."""

    saga_id: str = Field(description="The id of the saga.")
    kind: str = Field(description="The kind of saga: the name of its state machine.")
    status: SagaStatus = Field(description="The state of the saga.")
    execution: str | None = Field(description="The ARN of its execution.")
    trace_id: str = Field(description="The trace that all its work belongs to.")
    error_message: str | None = Field(description="Why it failed or waits for a person.")
    recoveries: int = Field(description="How often the reconciler has tried to compensate it.")
    started_at: datetime = Field(description="When it began.")
    completed_at: datetime | None = Field(description="When it ended.")


class SagaSummary(SagaRecord):
    """A saga in a list."""

    updated_at: datetime = Field(description="When it changed last.")


class Resolution(BaseModel):
    """Why an operator ends a saga: what they found, and what they did by hand."""

    note: Note = Field(description="The reason, kept with the saga.")


class Intervention(BaseModel):
    """Who ended a saga by hand, when and why."""

    saga_id: str = Field(description="The id of the saga.")
    actor_id: str = Field(description="The API key that ended it.")
    note: str = Field(description="The reason that was given.")
    resolved_at: datetime = Field(description="When it was ended.")


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
    """Mark a saga that waits for a person as compensated, and record who did so and why.

    No step runs: the person has done by hand what was needed. Raises `NotFound`, and `Conflict`
    when the saga does not wait for a person, or another person has resolved it.
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
    return Conflict(f"this saga is {state.status} and does not wait for a person")
