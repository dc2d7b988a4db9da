"""The way of a message as spans: how long it lay in the outbox, how long in its queue.

The consumer writes both from the times on the message, so the relay stays as lean as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from skald.telemetry.spans import Kind, Span, derived_span_id, finish
from skald.telemetry.trace import TraceContext

if TYPE_CHECKING:
    from skald.messaging.envelope import Envelope

_SENT = "SentTimestamp"


def arrived(envelope: Envelope, message_id: str, attributes: Mapping[str, str]) -> TraceContext:
    """Record the spans of an envelope that came by SQS and return where its consumer goes on.

    `attributes` are the record's system attributes. Ids are derived from event and message: a
    redelivery repeats its spans, which are then stored once.
    """
    way = TraceContext(envelope.trace_id, envelope.parent_span_id)
    if _SENT not in attributes:
        return way
    created = _nanoseconds(envelope.timestamp)
    sent = max(created, _of_milliseconds(attributes[_SENT]))
    about: dict[str, Any] = {"tenant_id": envelope.tenant_id, "event_id": str(envelope.event_id)}
    outbox = derived_span_id("outbox", envelope.event_id)
    way = _record(way, Kind.OUTBOX, envelope.event_type, outbox, (created, sent), **about)
    return waited(way, envelope.event_type, message_id, attributes, not_before=sent, **about)


def waited(
    way: TraceContext,
    name: str,
    message_id: str,
    attributes: Mapping[str, str],
    *,
    tenant_id: UUID,
    not_before: int = 0,
    **about: Any,
) -> TraceContext:
    """Record how long a message lay in its queue until it was first received, as `arrived` does.

    Returns where its worker goes on. Whatever the clock of SQS says, it was not sent before
    `not_before`, in nanoseconds since 1970.
    """
    if _SENT not in attributes:
        return way
    sent = max(not_before, _of_milliseconds(attributes[_SENT]))
    received = max(sent, _of_milliseconds(attributes["ApproximateFirstReceiveTimestamp"]))
    span_id = derived_span_id("queue", message_id)
    return _record(way, Kind.QUEUE, name, span_id, (sent, received), tenant_id=tenant_id, **about)


def _record(
    way: TraceContext,
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
            trace_id=way.trace_id,
            span_id=span_id,
            parent_span_id=way.span_id,
            kind=kind,
            name=name,
            start_unix_nano=start,
            end_unix_nano=end,
            attributes=about,
            tenant_id=tenant_id,
        )
    )
    return TraceContext(way.trace_id, span_id)


def _of_milliseconds(timestamp: str) -> int:
    return int(timestamp) * 1_000_000


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1_000
