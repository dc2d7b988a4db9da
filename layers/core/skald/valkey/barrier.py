"""A barrier over a set of finished members, in Redis, with PostgreSQL as its memory (V-05)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from itertools import batched
from typing import TYPE_CHECKING

from skald.valkey.client import BestEffort

if TYPE_CHECKING:
    import redis

KEPT_SECONDS = 86_400
STAGED_SECONDS = 60
REBUILDS = 5
CHUNK = 1_000
"""Members that one command takes to Redis; Lua unpacks no more than some thousands."""
_OPENED = "@opened"

# The sentinel tells a set that lost its members (flush, failover, eviction) from a young one.
_ARRIVE = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return -1 end
redis.call('SADD', KEYS[1], ARGV[2])
return redis.call('SCARD', KEYS[1]) - 1
"""

_STAGE = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
return 1
"""

# A union, because another caller may have opened the set and members may have arrived in it.
_OPEN = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return -1 end
if redis.call('SCARD', KEYS[2]) ~= tonumber(ARGV[2]) then return -1 end
redis.call('SUNIONSTORE', KEYS[1], KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
return redis.call('SCARD', KEYS[1]) - 1
"""


class Barrier:
    """Counts members that arrived; arriving twice counts once.

    `members` returns those that PostgreSQL knows to be finished, and is asked only when Redis has
    lost the set. `count` returns how many they are, without looking at each, and is asked when
    Redis does not answer. Callers commit a member before it arrives.
    """

    def __init__(
        self,
        client: redis.Redis,
        key: str,
        members: Callable[[], Iterable[str]],
        count: Callable[[], int],
    ) -> None:
        self._redis = BestEffort(client, "barrier")
        self._key = key
        self._members = members
        self._count = count

    def arrive(self, member: str) -> int:
        """Add a committed member and return how many have arrived."""
        arrived = self._redis.attempt(lambda client: self._arrive(client, member), None)
        return self._count() if arrived is None else arrived

    def remove(self) -> None:
        """Forget the set; it is only a shadow, and expires if Redis does not answer."""
        self._redis.attempt(lambda client: client.delete(self._key), None)

    def _arrive(self, client: redis.Redis, member: str) -> int:
        count = int(client.eval(_ARRIVE, 1, self._key, _OPENED, member))
        return count if count >= 0 else self._rebuild(client)

    def _rebuild(self, client: redis.Redis) -> int:
        """Put back what PostgreSQL knows, and return how many that are.

        Members that were read before a flush must not be put back after it: one that arrived in
        between would be missing from a set that passes for whole. They are staged in a key of
        their own, whose sentinel is there before they are read and goes with a flush.
        """
        # In braces the key decides the slot, as it does alone: a cluster keeps both together.
        staged = f"{{{self._key}}}:rebuild:{secrets.token_hex(8)}"
        for _ in range(REBUILDS):
            with client.pipeline() as both:
                both.sadd(staged, _OPENED)
                both.expire(staged, STAGED_SECONDS)
                both.execute()
            members = set(self._members())
            for chunk in batched(members, CHUNK, strict=False):
                client.eval(_STAGE, 1, staged, _OPENED, *chunk)
            size = len(members) + 1
            count = int(client.eval(_OPEN, 2, self._key, staged, _OPENED, size, KEPT_SECONDS))
            if count >= 0:
                return count
        return self._count()
