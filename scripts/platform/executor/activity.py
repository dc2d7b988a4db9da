"""Counts running invocations and pollers, so that tests can wait until all are idle.

No AWS API has this information.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from localstack.services.lambda_.invocation.counting_service import CountingService
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion


class Gauge:
    """Counts running activities by name; thread-safe."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._lock = Lock()

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """Increase the count of `name` while the block runs."""
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
"""Invocations by function name; they count from the moment when LocalStack accepts them."""
POLLING = Gauge()
"""Pollers by the UUID of their event source mapping; they count until their last batch ends."""

_lease = CountingService.get_invocation_lease


def observe() -> None:
    """Patch LocalStack to count invocations; call this once, before any invocation."""
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
