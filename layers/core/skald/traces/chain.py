"""Event chains: which event caused which, and how long it took (W-08)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from skald.postgres import Transaction
from skald.telemetry import SLOW_SECONDS, Kind
from skald.traces.reading import StoredSpan, find_spans
from skald.traces.tree import in_order

MAX_EVENTS = 1_000


class JournalEntry(BaseModel):
    """An event as it was published."""

    event_id: UUID = Field(description="The id of the event.")
    event_type: str = Field(description="The type of the event, as `batch.completed`.")
    target_type: str = Field(description="What kind of thing the event is about.")
    target_id: str = Field(description="The id of that thing.")
    correlation_id: str = Field(description="The business process that the event belongs to.")
    causation_id: UUID | None = Field(description="The event that caused this one.")
    trace_id: str = Field(description="The trace it was published in.")
    occurred_at: datetime = Field(description="When it happened.")
    parent_span_id: str | None = Field(description="The span that published it.")


class Link(JournalEntry):
    """An event with its place in the chain."""

    depth: int = Field(description="The depth in the chain; a root has 0.")
    seconds_after_cause: float | None = Field(
        description="Seconds since the event that caused it; null at the start of the chain."
    )
    is_slow: bool = Field(description="Whether it came over 500 ms after its cause.")


class Chain(BaseModel):
    """The events of one business process, each after its cause."""

    slow_links: int = Field(description="How many events came over 500 ms after their cause.")
    events: list[Link] = Field(description="The events, depth first.")


# The cast of a cause is in the select list: under row-level security a condition that casts uses no
# index.
_CHAIN = """
    with recursive cause as (
        select tenant_id, correlation_id, (envelope ->> 'causation_id')::uuid as causation_id
        from skald.outbox where tenant_id = %(tenant)s and event_id = %(event)s
        union
        select tenant_id, earlier.correlation_id, (earlier.envelope ->> 'causation_id')::uuid
        from skald.outbox as earlier join cause using (tenant_id)
        where earlier.event_id = cause.causation_id
    )
    select event_id, event_type, correlation_id, causation_id, trace_id, parent_span_id,
           target_type, target_id, told.timestamp as occurred_at
    from skald.outbox
    cross join json_to_record(envelope) as told (
        causation_id uuid, trace_id text, parent_span_id text, target_type text, target_id text,
        timestamp timestamptz)
    where tenant_id = %(tenant)s and correlation_id in (select correlation_id from cause)
    order by occurred_at, event_id
    limit %(limit)s
"""


def find_chain(transaction: Transaction, event_id: UUID) -> Chain | None:
    """Return the chain of an event, None when the tenant has no such event.

    The chain holds every event with its correlation id, and with those of its causes. When an event
    names no cause, its trace does: the message whose consumer published it.
    """
    entries = transaction.all(
        JournalEntry,
        _CHAIN,
        {"tenant": transaction.tenant_id, "event": event_id, "limit": MAX_EVENTS},
    )
    if not entries:
        return None
    causes = _causes(entries, find_spans(transaction, *{entry.trace_id for entry in entries}))
    times = {entry.event_id: entry.occurred_at for entry in entries}
    links = [
        _link(entry, depth, causes.get(entry.event_id), times)
        for depth, entry in in_order(
            entries, lambda entry: entry.event_id, lambda entry: causes.get(entry.event_id)
        )
    ]
    return Chain(slow_links=sum(link.is_slow for link in links), events=links)


def _link(
    entry: JournalEntry, depth: int, cause: UUID | None, times: Mapping[UUID, datetime]
) -> Link:
    began = times.get(cause) if cause else None
    seconds = (entry.occurred_at - began).total_seconds() if began else None
    return Link(
        **entry.model_dump(exclude={"causation_id"}),
        causation_id=cause,
        depth=depth,
        seconds_after_cause=seconds,
        is_slow=seconds is not None and seconds > SLOW_SECONDS,
    )


def _causes(entries: Iterable[JournalEntry], spans: Iterable[StoredSpan]) -> dict[UUID, UUID]:
    by_id = {span.span_id: span for span in spans}
    found = {entry.event_id: entry.causation_id or _cause(entry, by_id) for entry in entries}
    return {event_id: cause for event_id, cause in found.items() if cause is not None}


def _cause(entry: JournalEntry, spans: Mapping[str, StoredSpan]) -> UUID | None:
    """Find the consumer that published the event, from the publishing span upwards."""
    span_id = entry.parent_span_id
    for _ in spans:
        span = spans.get(span_id or "")
        if span is None:
            return None
        if span.kind == Kind.CONSUMER:
            return UUID(span.attributes["event_id"])
        span_id = span.parent_span_id
    return None
