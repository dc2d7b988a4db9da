"""The way of a message as spans: how long it lay in the outbox, how long in its queue.

The consumer writes both from the times on the message, so the relay stays as lean as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from skald.telemetry.spans import Kind, Span, derived_span_id, finish
from skald.telemetry.trace import TraceContext

if TYPE_CHECKING:
    from skald.messaging.envelope import Envelope


def arrived(envelope: Envelope, message_id: str, attributes: Mapping[str, str]) -> TraceContext:
    """Record the spans of a message that came by SQS and return where its consumer goes on.

    `attributes` are the record's system attributes. Ids are derived from event and message: a
    redelivery repeats its spans, which are then stored once.
    """
    if "SentTimestamp" not in attributes:
        return TraceContext(envelope.trace_id, envelope.parent_span_id)
    created = _nanoseconds(envelope.timestamp)
    sent = max(created, int(attributes["SentTimestamp"]) * 1_000_000)
    received = max(sent, int(attributes["ApproximateFirstReceiveTimestamp"]) * 1_000_000)
    outbox = derived_span_id("outbox", envelope.event_id)
    queue = derived_span_id("queue", message_id)
    _record(envelope, Kind.OUTBOX, outbox, envelope.parent_span_id, created, sent)
    _record(envelope, Kind.QUEUE, queue, outbox, sent, received)
    return TraceContext(envelope.trace_id, queue)


def _record(
    envelope: Envelope, kind: Kind, span_id: str, parent: str | None, start: int, end: int
) -> None:
    finish(
        Span(
            trace_id=envelope.trace_id,
            span_id=span_id,
            parent_span_id=parent,
            kind=kind,
            name=envelope.event_type,
            start_unix_nano=start,
            end_unix_nano=end,
            attributes={"event_id": str(envelope.event_id)},
            tenant_id=envelope.tenant_id,
        )
    )


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1_000
