"""A barrier over a set of finished members, in Redis, with PostgreSQL as its memory (V-05)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from skald.state.valkey import BestEffort

if TYPE_CHECKING:
    import redis

KEPT_SECONDS = 86_400
_OPENED = "@opened"

# The sentinel tells a set that lost its members (flush, failover, eviction) from a young one.
_ARRIVE = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return -1 end
redis.call('SADD', KEYS[1], ARGV[2])
return redis.call('SCARD', KEYS[1]) - 1
"""


class Barrier:
    """Counts members that arrived; arriving twice counts once.

    `truth` returns the members PostgreSQL knows to be finished. It is asked only when Redis has
    lost the set or does not answer, so callers must commit a member before it arrives.
    """

    def __init__(self, client: redis.Redis, key: str, truth: Callable[[], Iterable[str]]) -> None:
        self._redis = BestEffort(client, "barrier")
        self._key = key
        self._truth = truth

    def arrive(self, member: str) -> int:
        """Add a committed member and return how many have arrived."""
        count = self._redis.attempt(lambda client: self._count(client, member), None)
        return len(set(self._truth())) if count is None else count

    def remove(self) -> None:
        """Forget the set; it is only a shadow, and expires if Redis does not answer."""
        self._redis.attempt(lambda client: client.delete(self._key), None)

    def _count(self, client: redis.Redis, member: str) -> int:
        count = int(client.eval(_ARRIVE, 1, self._key, _OPENED, member))
        return count if count >= 0 else self._rebuild(client)

    def _rebuild(self, client: redis.Redis) -> int:
        members = set(self._truth())
        with client.pipeline(transaction=True) as pipeline:
            pipeline.sadd(self._key, _OPENED, *members)
            pipeline.expire(self._key, KEPT_SECONDS)
            pipeline.scard(self._key)
            return int(pipeline.execute()[-1]) - 1
