"""Entering a function from outside: its trace, its first span, and the storing of its spans."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from skald.telemetry import Kind, Span, TraceContext, collecting, span, trace
from skald.traces import store


@contextmanager
def recording() -> Iterator[None]:
    """Store all spans of this invocation together when it ends, also when its work failed.

    Nested blocks leave that to the outermost.
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
    """Enter a function from outside: its trace, its first span, its recording."""
    with (
        recording(),
        trace(*context),
        span(kind, name, tenant_id=tenant_id, **attributes) as own,
    ):
        yield own
