"""V-05: the barrier counts each member once and rebuilds itself from PostgreSQL."""

from collections.abc import Callable
from uuid import uuid4

import pytest
import redis
from tests.integration.support import MortalValkey, together

from skald.valkey import connect
from skald.valkey.barrier import Barrier


@pytest.fixture
def finished() -> list[str]:
    """The members that PostgreSQL knows as finished."""
    return []


@pytest.fixture
def key() -> str:
    return f"batch:{uuid4()}:processed_files"


@pytest.fixture
def arrive(valkey: redis.Redis, key: str, finished: list[str]) -> Callable[[str], int]:
    """Commit a member, then count its arrival."""

    def commit_and_arrive(member: str) -> int:
        finished.append(member)
        return Barrier(valkey, key, lambda: finished, lambda: len(set(finished))).arrive(member)

    return commit_and_arrive


def test_redelivery_counts_once(arrive: Callable[[str], int]) -> None:
    """V-05: SADD adds a member once, so a redelivered message does not open the barrier early."""
    assert [arrive(member) for member in ("a", "b", "a", "b", "c")] == [1, 2, 2, 2, 3]


def test_one_of_many_at_once_makes_it_whole(arrive: Callable[[str], int]) -> None:
    """V-05: thirty members arrive together. At least one sees all of them, none sees more."""
    counts = together(*[lambda number=number: arrive(f"m{number}") for number in range(30)])
    assert max(counts) == 30


@pytest.mark.parametrize("loss", ["deleted", "evicted", "flushed with the last arrival left"])
def test_a_lost_set_is_rebuilt(
    loss: str, arrive: Callable[[str], int], valkey: redis.Redis, key: str, finished: list[str]
) -> None:
    """V-05: PostgreSQL is the source of truth, and rebuilds what Redis lost."""
    for member in ("a", "b"):
        arrive(member)
    valkey.delete(key)
    if loss.startswith("flushed"):
        valkey.sadd(key, "b")  # a set that exists and has lost members
    assert arrive("c") == 3
    assert set(valkey.smembers(key)) == {"@opened", *finished}
    assert int(valkey.ttl(key)) > 0


def test_without_redis_postgres_counts(no_valkey: str, key: str) -> None:
    """G-16: if Redis is unreachable, PostgreSQL counts without a wait."""
    assert Barrier(connect(no_valkey), key, lambda: ["a", "b"], lambda: 2).arrive("b") == 2


def test_it_survives_the_end_of_redis(
    own_valkey: MortalValkey, own_client: redis.Redis, key: str
) -> None:
    """V-05: members arrive before, during and after an outage of Redis; all are counted."""
    finished = ["a"]
    assert Barrier(own_client, key, lambda: finished, lambda: len(set(finished))).arrive("a") == 1
    own_valkey.stop()
    finished.append("b")
    assert Barrier(own_client, key, lambda: finished, lambda: len(set(finished))).arrive("b") == 2
    own_valkey.start()
    finished.append("c")
    assert Barrier(own_client, key, lambda: finished, lambda: len(set(finished))).arrive("c") == 3


def test_removal_leaves_nothing(
    valkey: redis.Redis, key: str, arrive: Callable[[str], int]
) -> None:
    """V-05: a barrier that was passed is deleted."""
    arrive("a")
    Barrier(valkey, key, list, int).remove()
    assert not valkey.exists(key)
