"""What happened in a saga, in one picture: steps, compensations, events, spans (G-07)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from skald.postgres import Transaction
from skald.saga import interventions
from skald.saga.interventions import Intervention, SagaRecord


class StepRecord(BaseModel):
    """A step as far as it has come; `planned` has not begun, or left no trace."""

    step: str
    status: str
    attempts: int
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    compensated_at: datetime | None = None


class EventRecord(BaseModel):
    """An event the saga published, and what became of it in the outbox."""

    event_id: UUID
    event_type: str
    aggregate: str
    status: str
    attempts: int
    last_error: str | None = None
    created_at: datetime
    published_at: datetime | None = None


class SpanRecord(BaseModel):
    """A span of the saga's trace; `duration_ms` in milliseconds."""

    span_id: str
    parent_span_id: str | None
    kind: str
    name: str
    status: str
    start_time: datetime
    duration_ms: float


class Timeline(SagaRecord):
    """A saga with everything that is known of it, each list in the order of time.

    `intervention` is what a person said who ended it.
    """

    intervention: Intervention | None = None
    steps: Sequence[StepRecord]
    events: Sequence[EventRecord]
    spans: Sequence[SpanRecord]


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
    """The planned steps in their order, then those outside the plan, as `compensate`."""
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
