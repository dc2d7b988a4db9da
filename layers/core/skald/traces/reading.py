"""Reading traces: the spans of a trace as one tree (G-09)."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from skald.postgres import Transaction
from skald.telemetry.spans import SLOW_SECONDS
from skald.traces.tree import in_order

MAX_SPANS = 5_000


class StoredSpan(BaseModel):
    """A span as PostgreSQL holds it."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    kind: str
    name: str
    start_time: datetime
    end_time: datetime
    duration_ms: float
    status: str
    attributes: dict[str, Any]


class Node(StoredSpan):
    """A span in its tree; `depth` is 0 for a root."""

    depth: int
    is_slow: bool


class Trace(BaseModel):
    """All that was done under one trace id, a cause before what it caused."""

    trace_id: str
    start_time: datetime
    end_time: datetime
    slow_spans: int
    spans: list[Node]


def find_spans(transaction: Transaction, *trace_ids: str) -> list[StoredSpan]:
    """Return the first `MAX_SPANS` spans of these traces by their start."""
    return transaction.all(
        StoredSpan,
        """
        select trace_id, span_id, parent_span_id, kind, name, start_time, end_time, duration_ms,
               status, attributes
        from skald.trace_spans
        where tenant_id = %s and trace_id = any(%s)
        order by start_time, end_time desc, span_id
        limit %s
        """,
        (transaction.tenant_id, list(trace_ids), MAX_SPANS),
    )


def find_trace(transaction: Transaction, trace_id: str) -> Trace | None:
    """Return a trace as its tenant may see it, None if there is nothing to see."""
    spans = find_spans(transaction, trace_id)
    if not spans:
        return None
    nodes = [
        Node(**span.model_dump(), depth=depth, is_slow=span.duration_ms > SLOW_SECONDS * 1000)
        for depth, span in in_order(spans, lambda s: s.span_id, lambda s: s.parent_span_id)
    ]
    return Trace(
        trace_id=trace_id,
        start_time=min(span.start_time for span in spans),
        end_time=max(span.end_time for span in spans),
        slow_spans=sum(node.is_slow for node in nodes),
        spans=nodes,
    )
