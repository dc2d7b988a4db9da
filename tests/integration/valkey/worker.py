"""A worker process for the tests: it reads an order per line as JSON, answers `=> ` and JSON."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from tests.integration.valkey import truth
from tests.integration.valkey.truth import Truth

from skald.errors import Problem
from skald.postgres import database
from skald.valkey import cache as cache_module
from skald.valkey import valkey
from skald.valkey.cache import cache
from skald.valkey.lock import Lease, Lock
from skald.valkey.semaphore import Semaphore

TTL = 3600


class Worker:
    """The work of one tenant. Each method is an order that a test may give."""

    def __init__(self, tenant: UUID) -> None:
        self._tenant = tenant
        self._truth = Truth(database(), tenant)
        self._stack = ExitStack()
        self._lease: Lease | None = None

    def get(self, key: str) -> Any:
        return cache().get_or_load(key, lambda: self._truth.read(key), TTL)

    def get_together(self, key: str, readers: int) -> list[Any]:
        """Read in so many threads at once. Returns the values and the number of loads."""
        start = threading.Barrier(readers)

        def read(_: int) -> Any:
            start.wait(timeout=30)
            return self.get(key)

        with ThreadPoolExecutor(readers) as pool:
            values = list(pool.map(read, range(readers)))
        return [sorted(set(values)), self._truth.reads]

    def invalidate(self, pattern: str) -> int:
        return cache().invalidate(pattern)

    def die_after_commit(self, key: str, value: str) -> None:
        """Write through, and die between the write to PostgreSQL and the write to Redis."""

        def write(new: str) -> None:
            self._truth.write(key, new)
            os.kill(os.getpid(), signal.SIGKILL)

        cache().write_through(key, value, write, TTL)

    def lock(self, thing: str, lease_seconds: float, wait_seconds: float) -> int:
        lock = Lock(database(), valkey(), self._tenant, "thing", thing, lease_seconds=lease_seconds)
        self._lease = self._stack.enter_context(lock.held(wait_seconds))
        return self._lease.token

    def renew(self) -> None:
        assert self._lease
        self._lease.renew()

    def write_under_lock(self, key: str, value: str) -> None:
        assert self._lease
        with database().transaction(self._tenant) as tx:
            self._lease.check(tx)
            truth.put(tx, key, value)

    def count_under_lock(self, key: str, times: int) -> None:
        """Read a number and write it plus one. Only the lock prevents lost updates."""
        for _ in range(times):
            with Lock(database(), valkey(), self._tenant, "thing", key).held(wait_seconds=30):
                self._truth.write(key, self._truth.read(key) + 1)

    def take_slot(self, name: str, limit: int, lease_seconds: float) -> None:
        slots = Semaphore(valkey(), name, limit, lease_seconds=lease_seconds)
        self._stack.enter_context(slots.held())

    def leave(self) -> None:
        self._stack.close()


def _obey(order: Callable[..., Any], arguments: list[Any]) -> dict[str, Any]:
    try:
        return {"answer": order(*arguments)}
    except Problem as problem:
        return {"problem": problem.code}


def main() -> None:
    # Local entries do not expire, so a test sees only invalidations.
    cache_module.LOCAL_SECONDS = float(TTL)
    worker = Worker(UUID(sys.argv[1]))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print("=> " + json.dumps(_obey(getattr(worker, name), arguments)), flush=True)


if __name__ == "__main__":
    main()
