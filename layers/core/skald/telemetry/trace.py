"""One trace id from the first request through every message, step and log line (G-09)."""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class TraceContext(NamedTuple):
    """The place of the current work in its trace; `span_id` is the parent of the next span."""

    trace_id: str
    span_id: str | None


_NO_TRACE = TraceContext("", None)
_current: ContextVar[TraceContext] = ContextVar("trace", default=_NO_TRACE)
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}"
)


def new_trace_id() -> str:
    """Return 32 hexadecimal digits, the W3C form of a trace id."""
    return secrets.token_hex(16)


def new_context() -> TraceContext:
    """Return the start of a new trace."""
    return TraceContext(new_trace_id(), None)


def current_trace_id() -> str:
    return _current.get().trace_id


def current_span_id() -> str | None:
    """Return the span that is the parent of a message sent now."""
    return _current.get().span_id


def context_of_headers(headers: Mapping[str, str]) -> TraceContext:
    """Return the trace and parent of a W3C `traceparent` header, or a new trace."""
    match = _TRACEPARENT.match(headers.get("traceparent", ""))
    return TraceContext(match[1], match[2]) if match else new_context()


@contextmanager
def trace(trace_id: str | None, span_id: str | None = None) -> Iterator[str]:
    """Use this trace and parent span for everything logged or sent inside the block."""
    from skald.telemetry.log import logger

    token = _current.set(TraceContext(trace_id or new_trace_id(), span_id))
    with logger.append_context_keys(trace_id=current_trace_id()):
        try:
            yield current_trace_id()
        finally:
            _current.reset(token)


@contextmanager
def below(span_id: str) -> Iterator[None]:
    """Make this span the parent of work that starts inside the block."""
    token = _current.set(_current.get()._replace(span_id=span_id))
    try:
        yield
    finally:
        _current.reset(token)
