"""A barrier over a set of finished members, in Redis, with PostgreSQL as its memory (V-05)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from skald.valkey.client import BestEffort

if TYPE_CHECKING:
    import redis

KEPT_SECONDS = 86_400
REBUILDS = 5
_OPENED = "@opened"

# The sentinel tells a set that lost its members (flush, failover, eviction) from a young one.
_ARRIVE = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return -1 end
redis.call('SADD', KEYS[1], ARGV[2])
return redis.call('SCARD', KEYS[1]) - 1
"""

_REBUILD = """
if redis.call('DEL', KEYS[2]) == 0 then return -1 end
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
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
        """Put back what PostgreSQL knows, and return how many that are.

        Members read before a flush must not be put back after it: whoever arrived in between
        would be missing from a set that passes for whole. The mark goes with the flush.
        """
        # In braces the key decides the slot, as it does alone: a cluster keeps both together.
        mark = f"{{{self._key}}}:rebuild:{secrets.token_hex(8)}"
        for _ in range(REBUILDS):
            client.set(mark, 1, ex=60)
            members = set(self._truth())
            count = int(client.eval(_REBUILD, 2, self._key, mark, KEPT_SECONDS, _OPENED, *members))
            if count >= 0:
                return count
        return len(set(self._truth()))
