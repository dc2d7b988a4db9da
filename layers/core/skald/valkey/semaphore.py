"""A semaphore over all processes. The slots of dead holders come back (G-14)."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skald.errors import Unavailable
from skald.valkey.client import BestEffort

if TYPE_CHECKING:
    import redis

LEASE_SECONDS = 30.0
_POLL_SECONDS = (0.05, 0.5)
"""The first and the longest pause between two tries: a long queue must not load Redis."""

# A sorted set of holders by the end of their leases, on the clock of Redis.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
"""
_HOLD = """
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
-- The set lives as long as its last lease; a later holder may have a shorter one.
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', KEYS[1], last[2])
return 1
"""
_ACQUIRE = f"""{_NOW}
if not redis.call('ZSCORE', KEYS[1], ARGV[1])
    and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
{_HOLD}"""
_RENEW = f"""{_NOW}
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
{_HOLD}"""


class NoSlot(Unavailable):
    code = "no_slot"
    title = "Too many calls at once"


class SlotLost(Unavailable):
    code = "slot_lost"
    title = "The place expired"


class Semaphore:
    """At most `limit` holders at once over all processes, each with a lease that it can renew.

    It protects a service that takes no more, such as the API of a model. When Redis cannot count,
    no caller gets in: `RedisError` is temporary. It is no lock: it guards load, not data. A limit
    that changes is a function, which is called before each attempt.
    """

    def __init__(
        self,
        client: redis.Redis,
        name: str,
        limit: int | Callable[[], int],
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._client = client
        self._key = f"semaphore:{name}"
        self._limit = limit if callable(limit) else lambda: limit
        self._milliseconds = int(lease_seconds * 1000)

    @contextmanager
    def held(self, wait_seconds: float = 0.0) -> Iterator[Callable[[], None]]:
        """Hold a slot for the block, which gets a function that renews it.

        Raises `NoSlot` when none is free within `wait_seconds`. A late renewal raises `SlotLost`.
        """
        holder = secrets.token_hex(8)
        deadline = time.monotonic() + wait_seconds
        pause, longest = _POLL_SECONDS
        while not self._acquire(holder):
            if time.monotonic() >= deadline:
                raise NoSlot(f"all {self._limit()} slots are taken", headers={"Retry-After": "1"})
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (no secret)
            pause = min(1.5 * pause, longest)
        try:
            yield lambda: self._renew(holder)
        finally:
            self._leave(holder)

    def _acquire(self, holder: str) -> bool:
        # The client may repeat it after a lost answer: a holder is counted once.
        return bool(
            self._client.eval(_ACQUIRE, 1, self._key, holder, self._milliseconds, self._limit())
        )

    def _renew(self, holder: str) -> None:
        if not self._client.eval(_RENEW, 1, self._key, holder, self._milliseconds):
            raise SlotLost("the slot's lease ran out before it was renewed")

    def _leave(self, holder: str) -> None:
        # The work is done. A slot that cannot be given back comes back when its lease ends.
        BestEffort(self._client, "semaphore").attempt(
            lambda client: client.zrem(self._key, holder), None
        )
