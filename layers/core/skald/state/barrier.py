"""A barrier over a set of finished members, in Redis, with PostgreSQL as its memory (V-05)."""

from collections.abc import Callable, Iterable

import redis

from skald.telemetry import logger, metrics

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
        self._client = client
        self._key = key
        self._truth = truth

    def arrive(self, member: str) -> int:
        """Add a committed member and return how many have arrived."""
        try:
            count = int(self._client.eval(_ARRIVE, 1, self._key, _OPENED, member))
            return count if count >= 0 else self._rebuild()
        except redis.RedisError:
            logger.warning("barrier counts from PostgreSQL because Redis does not answer")
            metrics.count("barrier_fallbacks_count")
            return len(set(self._truth()))

    def remove(self) -> None:
        """Forget the set; it is only a shadow."""
        try:
            self._client.delete(self._key)
        except redis.RedisError:
            logger.warning("barrier left to its expiry because Redis does not answer")

    def _rebuild(self) -> int:
        members = set(self._truth())
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.sadd(self._key, _OPENED, *members)
            pipeline.expire(self._key, KEPT_SECONDS)
            pipeline.scard(self._key)
            return int(pipeline.execute()[-1]) - 1
