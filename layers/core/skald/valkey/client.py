"""The client of Redis or Valkey, and how to go on while it is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from skald.config import settings
from skald.telemetry import logger, metrics

if TYPE_CHECKING:
    import redis

MAX_CONNECTIONS = 50
CONNECTION_WAIT_SECONDS = 5
PAUSE_SECONDS = 1.0


def connect(dsn: str) -> redis.Redis:
    """Return a client that fails within about two seconds and never hangs (G-01)."""
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    return redis.Redis.from_pool(
        redis.BlockingConnectionPool.from_url(
            dsn,
            max_connections=MAX_CONNECTIONS,
            timeout=CONNECTION_WAIT_SECONDS,
            decode_responses=True,
            protocol=2,  # version 3 sends messages between replies; a subscription reads both
            socket_connect_timeout=1,
            socket_timeout=1,
            socket_keepalive=True,
            health_check_interval=5,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=1),
        )
    )


@cache
def valkey() -> redis.Redis:
    return connect(settings().redis_dsn)


class BestEffort:
    """Redis for a `user` that can work without it.

    After a failure it is not called for `PAUSE_SECONDS` of wall-clock time, so only one caller
    waits for the timeout. Then it is tried again: recovery needs no restart.
    """

    def __init__(self, client: redis.Redis, user: str) -> None:
        from redis import RedisError

        self._error = RedisError
        self._client = client
        self._user = user
        self._away_until = 0.0

    def attempt[R, S](
        self, action: Callable[[redis.Redis], R], otherwise: S, *, insist: bool = False
    ) -> R | S:
        """Return the result of `action` with the client, or `otherwise` when Redis does not answer.

        With `insist` it is called during a pause, too, for work that must not wait.
        """
        if time.time() < self._away_until and not insist:
            return otherwise
        try:
            return action(self._client)
        except self._error as error:
            self._away_until = time.time() + PAUSE_SECONDS
            logger.warning(f"{self._user} goes on without Redis", extra={"error": str(error)})
            metrics.count("redis_fallbacks_count", user=self._user)
            return otherwise
