"""The start of an invocation: its trace, its first span, and where its spans are stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from skald.telemetry import Kind, Span, TraceContext, collecting, span, trace
from skald.traces import store


@contextmanager
def recording() -> Iterator[None]:
    """Store all spans of this invocation together when it ends, also when its work failed.

    The outermost block stores them; nested blocks store nothing.
    """
    spans: list[Span] | None = None
    try:
        with collecting() as spans:
            yield
    finally:
        if spans is not None:
            store.save(spans)


@contextmanager
def entry(
    kind: Kind,
    name: str,
    context: TraceContext,
    *,
    tenant_id: UUID | None = None,
    **attributes: Any,
) -> Iterator[Span]:
    """Begin an invocation: set its trace, open its first span, and store its spans at the end."""
    with (
        recording(),
        trace(*context),
        span(kind, name, tenant_id=tenant_id, **attributes) as own,
    ):
        yield own
