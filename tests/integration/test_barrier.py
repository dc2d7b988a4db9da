"""V-05: the barrier counts correctly with and without Redis; PostgreSQL is the truth."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from uuid import uuid4

import pytest
import redis
from tests.integration.support import MortalValkey, together

from skald.valkey import connect
from skald.valkey.barrier import KEPT_SECONDS, Barrier


class Truth:
    """What PostgreSQL knows, and how often it was asked."""

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.asked = 0
        self._guard = threading.Lock()

    def commit(self, member: str) -> None:
        with self._guard:
            self.members.add(member)

    def all(self) -> list[str]:
        with self._guard:
            self.asked += 1
            return list(self.members)

    def count(self) -> int:
        with self._guard:
            return len(self.members)


def barrier_of(client: redis.Redis, key: str, truth: Truth) -> Barrier:
    return Barrier(client, key, truth.all, truth.count)


@pytest.fixture
def truth() -> Truth:
    return Truth()


@pytest.fixture
def key() -> str:
    return f"batch:{uuid4()}:processed_files"


@pytest.fixture
def mortal_client(own_valkey: MortalValkey) -> Iterator[redis.Redis]:
    client = connect(own_valkey.dsn)
    yield client
    client.close()


def finish(barrier: Barrier, truth: Truth, member: str) -> int:
    """Commit a member, then let it arrive, as every caller must."""
    truth.commit(member)
    return barrier.arrive(member)


def test_members_are_counted(valkey: redis.Redis, key: str, truth: Truth) -> None:
    """V-05: SADD and SCARD; PostgreSQL is asked once, when the set is opened."""
    barrier = barrier_of(valkey, key, truth)
    assert [finish(barrier, truth, name) for name in "abc"] == [1, 2, 3]
    assert truth.asked == 1


def test_arriving_twice_counts_once(valkey: redis.Redis, key: str, truth: Truth) -> None:
    """V-05: an arrival is idempotent under redelivery."""
    barrier = barrier_of(valkey, key, truth)
    assert [finish(barrier, truth, name) for name in "aabab"] == [1, 1, 2, 2, 2]


def test_barriers_are_separate(valkey: redis.Redis, truth: Truth) -> None:
    """V-05: the key names the batch."""
    one, two = (barrier_of(valkey, f"batch:{uuid4()}", Truth()) for _ in range(2))
    one.arrive("a")
    one.arrive("b")
    two.arrive("a")
    assert two.arrive("c") == 1  # an uncommitted member opened the set of `two`


def test_a_flushed_set_is_rebuilt_from_the_truth(
    valkey: redis.Redis, key: str, truth: Truth
) -> None:
    """V-05: a set that Redis lost is rebuilt from PostgreSQL."""
    barrier = barrier_of(valkey, key, truth)
    for name in "abc":
        finish(barrier, truth, name)
    valkey.flushdb()
    assert finish(barrier, truth, "d") == 4
    valkey.flushdb()
    assert barrier.arrive("a") == 4, "a redelivery rebuilds it too"


def test_a_set_that_lost_all_members_is_rebuilt(
    valkey: redis.Redis, key: str, truth: Truth
) -> None:
    """V-05: if an old member arrives first after a loss, the set is not opened as an empty one."""
    barrier = barrier_of(valkey, key, truth)
    for name in "abc":
        finish(barrier, truth, name)
    valkey.delete(key)
    assert barrier.arrive("c") == 3


def test_the_set_expires(valkey: redis.Redis, key: str, truth: Truth) -> None:
    """G-15: nothing stays in Redis forever, and the set may be removed at any time."""
    barrier = barrier_of(valkey, key, truth)
    finish(barrier, truth, "a")
    assert 0 < valkey.ttl(key) <= KEPT_SECONDS
    finish(barrier, truth, "b")
    assert 0 < valkey.ttl(key) <= KEPT_SECONDS
    barrier.remove()
    assert not valkey.exists(key)


def test_without_redis_postgresql_counts(no_valkey: str, key: str, truth: Truth) -> None:
    """V-05: without Redis the barrier is slower and counts correctly."""
    client = connect(no_valkey)
    barrier = barrier_of(client, key, truth)
    assert [finish(barrier, truth, name) for name in "aab"] == [1, 1, 2]
    barrier.remove()
    client.close()


def test_a_redis_that_dies_in_the_middle_changes_no_count(
    own_valkey: MortalValkey, mortal_client: redis.Redis, key: str, truth: Truth
) -> None:
    """V-05: Redis is up, goes away and comes back empty; the count goes on."""
    assert finish(barrier_of(mortal_client, key, truth), truth, "a") == 1
    own_valkey.stop()
    assert finish(barrier_of(mortal_client, key, truth), truth, "b") == 2
    own_valkey.start()
    assert finish(barrier_of(mortal_client, key, truth), truth, "c") == 3


def arrivals(barrier: Barrier, truth: Truth, count: int) -> list[Callable[[], int]]:
    return [partial(finish, barrier, truth, str(number)) for number in range(count)]


def test_concurrent_arrivals_see_the_whole_and_never_more(
    valkey: redis.Redis, truth: Truth, key: str
) -> None:
    """V-05: at least one of the last sees the full count, none sees more: no early gather."""
    for attempt in range(10):
        run, name = Truth(), f"{key}:{attempt}"
        counts = together(*arrivals(barrier_of(valkey, name, run), run, 16))
        assert max(counts) == 16
        assert all(1 <= count <= 16 for count in counts)


def test_many_members_are_put_back_in_pieces(valkey: redis.Redis, key: str, truth: Truth) -> None:
    """V-05: a fan-out of 100,000 tasks loses its set before the last: Lua could not unpack them."""
    for number in range(99_999):
        truth.members.add(f"task-{number}")
    assert finish(barrier_of(valkey, key, truth), truth, "last") == 100_000
    assert truth.asked == 1
    assert [name for name in valkey.scan_iter(f"*{key}*") if name != key] == []


def test_what_was_read_before_a_flush_is_not_put_back(
    valkey: redis.Redis, key: str, truth: Truth
) -> None:
    """V-05: another member arrives after the flush; the list from before does not have it."""
    other = barrier_of(valkey, key, truth)

    def overtaken() -> list[str]:
        members = truth.all()
        if truth.asked == 1:
            valkey.flushdb()
            finish(other, truth, "b")
        return members

    truth.commit("a")
    assert Barrier(valkey, key, overtaken, truth.count).arrive("a") == 2


def test_concurrent_arrivals_survive_a_flush_in_the_middle(valkey: redis.Redis, key: str) -> None:
    """V-05: in any order of the arrivals and the flush, at least one sees the full count."""
    for attempt in range(10):
        run = Truth()
        barrier = barrier_of(valkey, f"{key}:{attempt}", run)

        def flush() -> int:
            valkey.flushdb()
            return 0

        counts = together(*arrivals(barrier, run, 8), flush, *arrivals(barrier, run, 16)[8:])
        assert max(counts) == 16
