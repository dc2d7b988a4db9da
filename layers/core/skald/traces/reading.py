"""Read traces: the spans of a trace as one tree (G-09)."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from skald.postgres import Transaction
from skald.telemetry import SLOW_SECONDS
from skald.traces.tree import in_order

MAX_SPANS = 5_000


class StoredSpan(BaseModel):
    """A span: one piece of work, with its time and its cause."""

    trace_id: str = Field(description="The trace it belongs to.")
    span_id: str = Field(description="The id of the span.")
    parent_span_id: str | None = Field(description="The span that caused this one.")
    kind: str = Field(description="The kind of work, as `step` or `database`.")
    name: str = Field(description="What was done.")
    start_time: datetime = Field(description="When it began.")
    end_time: datetime = Field(description="When it ended.")
    duration_ms: float = Field(description="How long it took, in milliseconds.")
    status: str = Field(description="`ok` or `error`.")
    attributes: dict[str, Any] = Field(description="More about the work.")


class Node(StoredSpan):
    """A span with its place in the tree."""

    depth: int = Field(description="The depth in the tree; a root has 0.")
    is_slow: bool = Field(description="Whether it took over 500 ms.")


class Trace(BaseModel):
    """All spans of one trace, each after the span that caused it."""

    trace_id: str = Field(description="The id of the trace.")
    start_time: datetime = Field(description="When the first span began.")
    end_time: datetime = Field(description="When the last span ended.")
    slow_spans: int = Field(description="How many spans took over 500 ms.")
    spans: list[Node] = Field(description="The spans, depth first.")


def find_spans(transaction: Transaction, *trace_ids: str) -> list[StoredSpan]:
    """Return the first `MAX_SPANS` spans of these traces, by start time."""
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
    """Return a trace of the tenant, None when it has no span."""
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
