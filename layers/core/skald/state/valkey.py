"""The Redis or Valkey client, with the timeouts and retries said aloud."""

from functools import cache

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from skald.config import settings


def connect(dsn: str) -> redis.Redis:
    """Return a client that fails within two seconds rather than hang."""
    return redis.Redis.from_url(
        dsn,
        decode_responses=True,
        socket_connect_timeout=1,
        socket_timeout=2,
        health_check_interval=5,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=2),
    )


@cache
def valkey() -> redis.Redis:
    return connect(settings().redis_dsn)
