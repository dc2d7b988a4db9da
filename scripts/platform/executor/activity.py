"""Tells what is under way, which no AWS API does: tests wait until nothing is."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from localstack.services.lambda_.invocation.counting_service import CountingService
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion


class Gauge:
    """Counts what is under way, by name."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._lock = Lock()

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """Count one more for as long as the block runs."""
        self._add(name, 1)
        try:
            yield
        finally:
            self._add(name, -1)

    def counts(self) -> dict[str, int]:
        """Return the counts above zero."""
        with self._lock:
            return dict(+self._counts)

    def _add(self, name: str, change: int) -> None:
        with self._lock:
            self._counts[name] += change


RUNNING = Gauge()
"""Invocations by function name, from the moment LocalStack admits them."""
POLLING = Gauge()
"""Workers by the UUID of their event source mapping, until their last batch has ended."""

_lease = CountingService.get_invocation_lease


def observe() -> None:
    """Replace the method; to be called once, before any invocation."""
    CountingService.get_invocation_lease = _counted_lease


@contextmanager
def _counted_lease(
    self: CountingService, function: Any, version: FunctionVersion, *state: Any
) -> Iterator[Any]:
    with (
        _lease(self, function, version, *state) as kind,
        RUNNING.one_more(version.id.function_name),
    ):
        yield kind
