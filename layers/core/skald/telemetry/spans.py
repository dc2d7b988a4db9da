"""Spans: pieces of work, each with its time and its cause (G-09).

The data model is that of OpenTelemetry. Its SDK is not used: importing it costs a cold start more
than all of our tracing. `skald.traces.otlp` sends spans to collectors.
"""

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from skald.telemetry.log import logger
from skald.telemetry.metrics import metrics
from skald.telemetry.trace import below, current_span_id, current_trace_id

SLOW_SECONDS = 0.5


class Kind(StrEnum):
    """The kind of work that a span covers."""

    HTTP = "http"
    OUTBOX = "outbox"
    QUEUE = "queue"
    CONSUMER = "consumer"
    WORKFLOW = "workflow"
    STEP = "step"
    SCHEDULE = "schedule"
    AGENT_NODE = "agent_node"
    MODEL = "model"
    DATABASE = "database"
    STORAGE = "storage"


@dataclass
class Span:
    """One piece of work in a trace; times in nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    kind: Kind
    name: str
    start_unix_nano: int
    end_unix_nano: int = 0
    status: Literal["ok", "error"] = "ok"
    attributes: dict[str, Any] = field(default_factory=dict)
    tenant_id: UUID | None = None

    @property
    def seconds(self) -> float:
        return (self.end_unix_nano - self.start_unix_nano) / 1e9


_current: ContextVar[Span | None] = ContextVar("span", default=None)
_finished: ContextVar[list[Span] | None] = ContextVar("finished_spans", default=None)


def current_span() -> Span | None:
    """Return the current span, to name it or to add attributes."""
    return _current.get()


def derived_span_id(*parts: object) -> str:
    """Return the same id for the same parts, for a span that several functions refer to."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def workflow_span_id(saga_id: str) -> str:
    """Return the id of the span that starts a saga's execution: the parent of all its steps."""
    return derived_span_id("workflow", saga_id)


@contextmanager
def span(
    kind: Kind,
    name: str,
    *,
    span_id: str | None = None,
    tenant_id: UUID | None = None,
    **attributes: Any,
) -> Iterator[Span]:
    """Cover the block with a span below the current one; an exception makes its status `error`.

    Use few names: put ids into attributes, and payloads nowhere.
    """
    outer = _current.get()
    own = Span(
        trace_id=current_trace_id(),
        span_id=span_id or secrets.token_hex(8),
        parent_span_id=current_span_id(),
        kind=kind,
        name=name,
        start_unix_nano=time.time_ns(),
        attributes=attributes,
        tenant_id=tenant_id or (outer.tenant_id if outer else None),
    )
    token = _current.set(own)
    try:
        with below(own.span_id):
            yield own
    except BaseException as error:
        own.status = "error"
        own.attributes["error.type"] = type(error).__name__
        raise
    finally:
        _current.reset(token)
        own.end_unix_nano = time.time_ns()
        finish(own)


def finish(span: Span) -> None:
    """Keep an ended span until the invocation ends; report it if it is slow."""
    metrics.seconds("trace_span_duration", span.seconds, span_kind=span.kind, status=span.status)
    if span.seconds > SLOW_SECONDS:
        logger.warning(
            "span is slow",
            extra={"span": span.name, "span_kind": span.kind, "seconds": round(span.seconds, 3)},
        )
        metrics.count("slow_spans_count", span_kind=span.kind)
    spans = _finished.get()
    if spans is not None:
        spans.append(span)


@contextmanager
def collecting() -> Iterator[list[Span] | None]:
    """Collect the spans that end inside the block; None inside another such block."""
    if _finished.get() is not None:
        yield None
        return
    spans: list[Span] = []
    token = _finished.set(spans)
    try:
        yield spans
    finally:
        _finished.reset(token)
