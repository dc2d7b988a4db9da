"""The timeline of a saga: its steps, compensations, events and spans (G-07)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from skald.postgres import Transaction
from skald.saga import interventions
from skald.saga.interventions import Intervention, SagaRecord


class StepRecord(BaseModel):
    """A step of a saga. `planned` means that it has not begun."""

    step: str = Field(description="The name of the step.")
    status: str = Field(description="The state of the step.")
    attempts: int = Field(description="How often it was tried.")
    error: str | None = Field(
        default=None, description="The error of the last attempt that failed."
    )
    started_at: datetime | None = Field(default=None, description="When it began.")
    completed_at: datetime | None = Field(default=None, description="When it was done.")
    compensated_at: datetime | None = Field(default=None, description="When it was undone.")


class EventRecord(BaseModel):
    """An event that the saga published, as the outbox holds it."""

    event_id: UUID = Field(description="The id of the event.")
    event_type: str = Field(description="The type of the event, as `batch.completed`.")
    aggregate: str = Field(description="The aggregate whose events keep their order.")
    status: str = Field(description="`pending`, `published` or `failed`.")
    attempts: int = Field(description="How often it was sent.")
    last_error: str | None = Field(
        default=None, description="The error of the last attempt that failed."
    )
    created_at: datetime = Field(description="When it was put into the outbox.")
    published_at: datetime | None = Field(default=None, description="When it was sent.")


class SpanRecord(BaseModel):
    """A span of the saga's trace."""

    span_id: str = Field(description="The id of the span.")
    parent_span_id: str | None = Field(description="The span that caused this one.")
    kind: str = Field(description="The kind of work, as `step` or `database`.")
    name: str = Field(description="What was done.")
    status: str = Field(description="`ok` or `error`.")
    start_time: datetime = Field(description="When it began.")
    duration_ms: float = Field(description="How long it took, in milliseconds.")


class Timeline(SagaRecord):
    """A saga with its steps, events and spans, each list in the order of time."""

    intervention: Intervention | None = Field(
        default=None, description="Who ended it by hand, if a person did."
    )
    steps: Sequence[StepRecord] = Field(description="Its steps.")
    events: Sequence[EventRecord] = Field(description="The events that it published.")
    spans: Sequence[SpanRecord] = Field(description="The spans of its trace.")


def find(transaction: Transaction, saga_id: str) -> Timeline | None:
    """Return the timeline of a saga, None when the tenant has no such saga."""
    key = {"tenant": transaction.tenant_id, "saga": saga_id}
    saga = transaction.execute(
        """
        select saga_id, kind, status, execution, trace_id, error_message, recoveries, started_at,
               completed_at
        from skald.saga_transactions where tenant_id = %(tenant)s and saga_id = %(saga)s
        """,
        key,
    ).fetchone()
    if saga is None:
        return None
    return Timeline(
        **saga,
        intervention=interventions.find(transaction, saga_id),
        steps=_steps(transaction, key),
        events=_events(transaction, key),
        spans=_spans(transaction, key | {"trace": saga["trace_id"]}),
    )


def _steps(transaction: Transaction, key: dict[str, Any]) -> list[StepRecord]:
    """Return the planned steps in order, then steps outside the plan, such as `compensate`."""
    return transaction.all(
        StepRecord,
        """
        select step, coalesce(done.status, 'planned') as status,
               coalesce(done.attempts, 0) as attempts, done.error, done.started_at,
               done.completed_at, done.compensated_at
        from (select plan.step, plan.number
              from skald.saga_transactions,
                   jsonb_array_elements_text(steps) with ordinality as plan (step, number)
              where tenant_id = %(tenant)s and saga_id = %(saga)s) as planned
        full join (select * from skald.saga_steps
                   where tenant_id = %(tenant)s and saga_id = %(saga)s) as done using (step)
        order by planned.number, done.started_at
        """,
        key,
    )


def _events(transaction: Transaction, key: dict[str, Any]) -> list[EventRecord]:
    return transaction.all(
        EventRecord,
        """
        select event_id, event_type, aggregate, status, attempts, last_error, created_at,
               published_at
        from skald.outbox
        where tenant_id = %(tenant)s and correlation_id = %(saga)s
        order by position
        """,
        key,
    )


def _spans(transaction: Transaction, key: dict[str, Any]) -> list[SpanRecord]:
    return transaction.all(
        SpanRecord,
        """
        select span_id, parent_span_id, kind, name, status, start_time, duration_ms
        from skald.trace_spans
        where tenant_id = %(tenant)s and trace_id = %(trace)s
        order by start_time, span_id
        """,
        key,
    )
