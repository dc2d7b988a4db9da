"""One trace id from the first request through every message, step and log line (G-09)."""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("trace_id", default="")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def new_trace_id() -> str:
    """Return 32 hexadecimal digits, the W3C form of a trace id."""
    return secrets.token_hex(16)


def current_trace_id() -> str:
    return _current.get()


def from_headers(headers: Mapping[str, str]) -> str:
    """Take the trace id of a W3C `traceparent` header, or start a new trace."""
    match = _TRACEPARENT.match(headers.get("traceparent", ""))
    return match[1] if match else new_trace_id()


@contextmanager
def trace(trace_id: str | None) -> Iterator[str]:
    """Make this the trace of everything logged or sent inside the block."""
    from skald.telemetry.log import logger

    token = _current.set(trace_id or new_trace_id())
    with logger.append_context_keys(trace_id=_current.get()):
        try:
            yield _current.get()
        finally:
            _current.reset(token)
