"""Token buckets: N requests a minute, in bursts of up to N (G-12)."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from skald.config import settings
from skald.errors import Problem
from skald.telemetry import metrics
from skald.valkey.client import BestEffort, valkey

if TYPE_CHECKING:
    import redis

# Fractions of tokens and the clock of Redis, in one step: two callers never spend one token.
# Returns the milliseconds until the next token, 0 when one was taken.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local capacity, refill = tonumber(ARGV[1]), ARGV[1] / 60000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local since = math.max(0, now - (bucket[2] or now))
local tokens = math.min(capacity, (bucket[1] or capacity) + since * refill)
if tokens < 1 then return math.ceil((1 - tokens) / refill) end
redis.call('HSET', KEYS[1], 'tokens', tokens - 1, 'at', now)
redis.call('PEXPIRE', KEYS[1], 60000)
return 0
"""


class TooManyRequests(Problem):
    status = 429
    code = "too_many_requests"
    title = "Too many requests"


class RateLimit:
    """Buckets of one kind with `per_minute` tokens each. A limit of 0 admits every request.

    Without Redis every request is admitted: a limit protects from load, not from strangers.
    """

    def __init__(self, client: redis.Redis, kind: str, per_minute: int) -> None:
        self._redis = BestEffort(client, "rate limit")
        self._kind = kind
        self._per_minute = per_minute

    def take(self, who: object) -> None:
        """Take a token from the bucket of a caller.

        Raises `TooManyRequests`, with the seconds until the next token in `Retry-After`.
        """
        if not self._per_minute:
            return
        key = f"rate_limit:{self._kind}:{who}"
        wait = self._redis.attempt(lambda client: client.eval(_TAKE, 1, key, self._per_minute), 0)
        if wait:
            metrics.count("requests_limited_count", kind=self._kind)
            raise TooManyRequests(
                f"at most {self._per_minute} requests a minute for one {self._kind}",
                headers={"Retry-After": str(math.ceil(int(wait) / 1000))},
            )


def per_ip() -> RateLimit:
    """Return the limit of every address without a valid key (P-07)."""
    return _limit(valkey(), "ip", settings().rate_limit_per_ip)


def per_key() -> RateLimit:
    """Return the limit of every API key (P-07)."""
    return _limit(valkey(), "key", settings().rate_limit_per_key)


def per_resource() -> RateLimit:
    """Return the limit of every path, for each tenant (P-07)."""
    return _limit(valkey(), "resource", settings().rate_limit_per_resource)


@cache
def _limit(client: redis.Redis, kind: str, per_minute: int) -> RateLimit:
    """Return the shared limit of its kind: it remembers a failure of Redis."""
    return RateLimit(client, kind, per_minute)
