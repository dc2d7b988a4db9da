"""Spans of a message in transit: its time in the outbox, its time in the queue.

The consumer writes both spans from the times on the message, so the relay has no work with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from skald.telemetry import Kind, Span, TraceContext, derived_span_id, finish

if TYPE_CHECKING:
    from skald.messaging.envelope import Envelope

_SENT = "SentTimestamp"


def arrived(envelope: Envelope, message_id: str, attributes: Mapping[str, str]) -> TraceContext:
    """Record the spans of an envelope that came by SQS; returns the parent of its consumer's span.

    `attributes` are the record's system attributes. The spans' ids are derived from event and
    message, so a redelivery repeats the spans, and they are stored once.
    """
    parent = TraceContext(envelope.trace_id, envelope.parent_span_id)
    if _SENT not in attributes:
        return parent
    created = _nanoseconds(envelope.timestamp)
    sent = max(created, _of_milliseconds(attributes[_SENT]))
    about: dict[str, Any] = {"tenant_id": envelope.tenant_id, "event_id": str(envelope.event_id)}
    outbox = derived_span_id("outbox", envelope.event_id)
    parent = _record(parent, Kind.OUTBOX, envelope.event_type, outbox, (created, sent), **about)
    return waited(parent, envelope.event_type, message_id, attributes, not_before=sent, **about)


def waited(
    parent: TraceContext,
    name: str,
    message_id: str,
    attributes: Mapping[str, str],
    *,
    tenant_id: UUID,
    not_before: int = 0,
    **about: Any,
) -> TraceContext:
    """Record how long a message was in its queue before its first receipt, as `arrived` does.

    Returns the parent of its worker's span. `not_before`, in nanoseconds since 1970, is the
    earliest time at which it can have been sent: the clock of SQS differs from ours.
    """
    if _SENT not in attributes:
        return parent
    sent = max(not_before, _of_milliseconds(attributes[_SENT]))
    received = max(sent, _of_milliseconds(attributes["ApproximateFirstReceiveTimestamp"]))
    span_id = derived_span_id("queue", message_id)
    return _record(
        parent, Kind.QUEUE, name, span_id, (sent, received), tenant_id=tenant_id, **about
    )


def _record(
    parent: TraceContext,
    kind: Kind,
    name: str,
    span_id: str,
    times: tuple[int, int],
    *,
    tenant_id: UUID,
    **about: Any,
) -> TraceContext:
    start, end = times
    finish(
        Span(
            trace_id=parent.trace_id,
            span_id=span_id,
            parent_span_id=parent.span_id,
            kind=kind,
            name=name,
            start_unix_nano=start,
            end_unix_nano=end,
            attributes=about,
            tenant_id=tenant_id,
        )
    )
    return TraceContext(parent.trace_id, span_id)


def _of_milliseconds(timestamp: str) -> int:
    return int(timestamp) * 1_000_000


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1_000
