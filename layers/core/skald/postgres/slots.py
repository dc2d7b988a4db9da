"""Slots of a pool: a bounded number of callers get one, the others wait for a time (G-01)."""

import threading
from dataclasses import dataclass

from skald.errors import Unavailable
from skald.telemetry import logger, metrics


class PoolExhausted(Unavailable):
    code = "pool_exhausted"
    title = "All connections are busy"


@dataclass(frozen=True)
class PoolStatistics:
    """A pool at one moment: connections in use, idle, callers that wait; totals since start.

    `replaced` counts connections that were broken or too old.
    """

    size: int
    active: int
    idle: int
    waiting: int
    served: int
    refused: int
    replaced: int


class Slots:
    """At most `size` callers at once; a caller that waits longer than `wait_seconds` is refused."""

    def __init__(self, size: int, wait_seconds: float) -> None:
        self._size = size
        self._active = self._waiting = self._served = self._refused = 0
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        """Hold a slot for the block; raises `PoolExhausted` with the length of the queue (G-16)."""
        with self._changed:
            if self._active < self._size or self._has_waited():
                self._active += 1
                self._served += 1
                return
            self._refused += 1
            waiting = self._waiting + 1  # ourselves included
        logger.error("connection pool exhausted", extra={"size": self._size, "waiting": waiting})
        metrics.count("pool_exhausted_count")
        raise PoolExhausted(
            f"all {self._size} database connections are busy",
            headers={"Retry-After": "1"},
            queue_length=waiting,
        )

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._active -= 1
            self._changed.notify_all()

    def statistics(self, *, idle: int, replaced: int) -> PoolStatistics:
        with self._changed:
            return PoolStatistics(
                size=self._size,
                active=self._active,
                idle=idle,
                waiting=self._waiting,
                served=self._served,
                refused=self._refused,
                replaced=replaced,
            )

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until no slot is held; returns whether that happened in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._active == 0, seconds)

    def _has_waited(self) -> bool:
        """Wait for a slot; returns whether there is one."""
        self._waiting += 1
        is_free = self._changed.wait_for(lambda: self._active < self._size, self._wait_seconds)
        self._waiting -= 1
        return is_free
