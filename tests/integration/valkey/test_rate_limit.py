"""G-12: a bucket gives no more than its capacity, and says when the next token comes."""

import os
import time
from collections.abc import Callable
from uuid import uuid4

import pytest
import redis
from tests.integration.support import together

from skald.valkey import connect, rate_limit
from skald.valkey.rate_limit import RateLimit, TooManyRequests


def admitted(limit: RateLimit, who: object) -> bool:
    try:
        limit.take(who)
    except TooManyRequests:
        return False
    return True


@pytest.fixture
def who() -> str:
    return str(uuid4())


def test_races_never_exceed_the_capacity(valkey: redis.Redis, who: str) -> None:
    """G-12: fifty callers at once on a bucket of three, whose next token comes in 20 s."""
    limit = RateLimit(valkey, "test", 3)
    answers = together(*[lambda: admitted(limit, who)] * 50)
    assert sum(answers) == 3


def test_a_refusal_is_a_429_with_whole_positive_seconds(valkey: redis.Redis, who: str) -> None:
    """G-12: with one token a minute, `Retry-After` is a minute."""
    limit = RateLimit(valkey, "test", 1)
    begun = time.monotonic()
    limit.take(who)
    with pytest.raises(TooManyRequests) as refused:
        limit.take(who)
    assert refused.value.status == 429
    passed = time.monotonic() - begun
    assert 60 - passed <= int(refused.value.headers["Retry-After"]) <= 60


def test_tokens_come_back_with_time(valkey: redis.Redis, who: str) -> None:
    """G-12: after half a minute a bucket has half its tokens more, and never more than it holds."""
    limit = RateLimit(valkey, "test", 10)
    while admitted(limit, who):
        pass
    key = f"rate_limit:test:{who}"
    seconds, _ = valkey.time()
    valkey.hset(key, mapping={"tokens": 0, "at": (seconds - 30) * 1000})
    assert sum(admitted(limit, who) for _ in range(10)) in (5, 6)
    valkey.hset(key, mapping={"tokens": 0, "at": 0})
    assert sum(admitted(limit, who) for _ in range(20)) == 10


def test_each_caller_has_its_own_bucket(valkey: redis.Redis, who: str) -> None:
    """G-12: the requests of one caller do not limit another; buckets of two kinds are separate."""
    assert admitted(RateLimit(valkey, "test", 1), who)
    assert admitted(RateLimit(valkey, "test", 1), uuid4())
    assert admitted(RateLimit(valkey, "other", 1), who)
    assert not admitted(RateLimit(valkey, "test", 1), who)


def test_buckets_do_not_stay(valkey: redis.Redis, who: str) -> None:
    """G-12: an unused bucket is full after a minute and expires."""
    RateLimit(valkey, "test", 10).take(who)
    assert 0 < int(valkey.ttl(f"rate_limit:test:{who}")) <= 60


def test_without_redis_every_request_passes(no_valkey: str, who: str) -> None:
    """G-16: limits protect from overload; their loss must not refuse all callers."""
    limit = RateLimit(connect(no_valkey), "test", 1)
    assert [admitted(limit, who) for _ in range(5)] == [True] * 5


def test_a_limit_of_0_asks_no_server(no_valkey: str, who: str) -> None:
    """G-12: 0 switches a limit off, and Redis is not asked."""
    limit = RateLimit(connect(no_valkey), "test", 0)
    assert all(admitted(limit, who) for _ in range(5))


def test_limits_are_those_of_the_source(
    monkeypatch: pytest.MonkeyPatch, configure: Callable[[str, str], None]
) -> None:
    """P-07: 100 a minute for an address, 1000 for a key, unless the environment says otherwise."""
    for name in [name for name in os.environ if name.startswith("RATE_LIMIT_")]:
        monkeypatch.delenv(name)
    assert rate_limit.per_ip()._per_minute == 100
    assert rate_limit.per_key()._per_minute == 1000
    assert rate_limit.per_resource()._per_minute == 0
    configure("RATE_LIMIT_PER_KEY", "7")
    assert rate_limit.per_key()._per_minute == 7
