"""G-06, V-10, P-08: concurrent readers cause one load, and no reader gets an invalidated value."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import redis
from tests.integration.support import MortalValkey, together, wait_until
from tests.integration.valkey.process import Process
from tests.integration.valkey.truth import Truth

from skald.valkey import cache as cache_module
from skald.valkey import client as valkey_module
from skald.valkey import invalidation
from skald.valkey.cache import Cache
from skald.valkey.invalidation import CHANNEL

type NewCache = Callable[[], Cache]

TTL = 3600


@pytest.fixture
def key() -> str:
    return f"thing:{uuid4()}"


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure Redis is tried again at once."""
    monkeypatch.setattr(valkey_module, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local entries do not expire, so only an invalidation removes them."""
    monkeypatch.setattr(cache_module, "LOCAL_SECONDS", 3600.0)


class Broken(Exception):
    """The error that a loader or a writer of a test raises."""


def never() -> object:
    raise AssertionError("loaded, though it was there")


# One load for many readers ------------------------------------------------------------------------


def test_a_hundred_readers_in_four_processes_cause_one_load(
    key: str, things: Truth, new_worker: Callable[[], Process]
) -> None:
    """V-10: 100 concurrent reads of a cold key are one query, across processes too."""
    things.write(key, "v1")
    workers = [new_worker() for _ in range(4)]
    for worker in workers:
        worker("get", f"warm:{key}")  # the worker has started, imported and connected
    for worker in workers:
        worker.order("get_together", key, 25)
    answers = [worker.answer() for worker in workers]
    assert [values for values, _ in answers] == [["v1"]] * 4
    assert sum(reads for _, reads in answers) - len(workers) <= 1, "one load beside the warming up"


def test_a_hundred_threads_cause_one_load(key: str, things: Truth, new_cache: NewCache) -> None:
    """V-10: threads of one process share one load."""
    things.write(key, "v1")
    cache = new_cache()
    reads = together(*[lambda: cache.get_or_load(key, lambda: things.read(key), TTL)] * 100)
    assert reads == ["v1"] * 100
    assert things.reads == 1


def test_a_failing_load_is_its_callers_and_is_not_kept(key: str, new_cache: NewCache) -> None:
    """G-06: the next reader loads again, in this process and in another one."""

    def fail() -> object:
        raise Broken

    cache = new_cache()
    with pytest.raises(Broken):
        cache.get_or_load(key, fail, TTL)
    assert new_cache().get_or_load(key, lambda: "v1", TTL) == "v1"
    assert cache.get_or_load(key, never, TTL) == "v1"


def test_a_reader_whose_loader_died_loads_when_the_lease_ends(
    key: str, new_cache: NewCache, new_client: Callable[[], redis.Redis]
) -> None:
    """G-06: the lease of a killed process expires by itself."""
    new_client().set(f"loading:{key}", "somebody dead", px=200)
    assert new_cache().get_or_load(key, lambda: "v1", TTL) == "v1"


def test_nothing_is_a_value_too(key: str, new_cache: NewCache) -> None:
    """G-06: the cache stores that there is no value, so the loader does not run again."""
    assert new_cache().get_or_load(key, lambda: None, TTL) is None
    assert new_cache().get_or_load(key, never, TTL) is None


def test_every_reader_gets_the_same_shape(key: str, new_cache: NewCache) -> None:
    """G-06: the caller that loads gets the value after JSON, as every later reader does."""
    cache = new_cache()
    assert cache.get_or_load(key, lambda: {"pair": (1, 2)}, TTL) == {"pair": [1, 2]}
    assert cache.get_or_load(key, never, TTL) == {"pair": [1, 2]}


def test_a_local_entry_lives_ten_seconds_of_wall_clock(
    key: str,
    new_cache: NewCache,
    new_client: Callable[[], redis.Redis],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P-08: an entry stays local for 10 s, then Redis is asked; a freeze does not extend it."""
    cache = new_cache()
    cache.get_or_load(key, lambda: "v1", TTL)
    new_client().set(key, '"v2"')
    assert cache.get_or_load(key, never, TTL) == "v1"
    later = time.time() + cache_module.LOCAL_SECONDS + 0.1
    monkeypatch.setattr("skald.valkey.cache.time.time", lambda: later)
    assert cache.get_or_load(key, never, TTL) == "v2"


def test_the_process_keeps_a_bounded_number(
    key: str, new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-08: the oldest entry leaves the process and stays in Redis."""
    monkeypatch.setattr(cache_module, "LOCAL_ENTRIES", 2)
    cache = new_cache()
    for number in range(4):
        cache.get_or_load(f"{key}:{number}", lambda: "v", TTL)
    assert len(cache._local) == 2
    assert cache.get_or_load(f"{key}:0", never, TTL) == "v"


def test_it_tells_which_level_answered(key: str, new_cache: NewCache) -> None:
    """G-17: the metric cache_hit_rate is counted for each level."""
    cache = new_cache()
    cache.get_or_load(key, lambda: "v", TTL)
    cache.get_or_load(key, never, TTL)
    assert cache.statistics() == {"database": 0.5, "process": 0.5}


# Invalidation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["{key}", "thing:*", "*:{key}"])
def test_invalidation_reaches_other_processes(
    pattern: str, things: Truth, new_worker: Callable[[], Process], new_cache: NewCache
) -> None:
    """G-06: a published pattern removes the local entries of every process."""
    key = f"thing:{uuid4()}"
    pattern = f"thing:*{key[-12:]}" if pattern.startswith("*") else pattern.format(key=key)
    things.write(key, "v1")
    worker = new_worker()
    assert worker("get", key) == "v1"
    things.write(key, "v2")
    assert worker("get", key) == "v1", "it answers from its memory"
    assert new_cache().invalidate(pattern) >= 1
    wait_until(lambda: worker("get", key) == "v2", "the news to arrive")


@pytest.mark.usefixtures("long_memory")
def test_an_invalidation_is_heard_as_soon_as_it_arrives(
    key: str, new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-06: an invalidation takes effect even while the subscription is trusted without a probe.

    Redis may answer the publisher before it has written the message to all subscribers.
    """
    monkeypatch.setattr(invalidation, "TRUSTED_SECONDS", 3600.0)
    reader, writer = new_cache(), new_cache()
    versions = iter(range(20))

    def reads(version: int) -> bool:
        return bool(reader.get_or_load(key, versions.__next__, TTL) == version)

    for version in range(20):
        wait_until(partial(reads, version), "the news")
        assert reader.get_or_load(key, never, TTL) == version
        writer.invalidate(key)


@pytest.mark.parametrize("lost", [False, True], ids=["listening", "connection lost"])
def test_a_thawed_process_never_serves_what_was_invalidated_while_it_slept(
    lost: bool,
    key: str,
    things: Truth,
    new_worker: Callable[[], Process],
    new_client: Callable[[], redis.Redis],
) -> None:
    """G-06: the first answer after the freeze is current, with or without the old connection."""
    client = new_client()
    things.write(key, "v1")
    worker = new_worker()
    worker("get", key)
    client.delete(key)
    assert worker("get", key) == "v1", "it answers from its memory, Redis has nothing"
    worker.freeze()
    frozen_at = time.time()
    if lost:
        client.client_kill_filter(_type="pubsub")
    things.write(key, "v2")
    Cache(client).invalidate(key)
    wait_until(lambda: time.time() > frozen_at + invalidation.TRUSTED_SECONDS, "a real sleep")
    worker.thaw()
    assert worker("get", key) == "v2"


@pytest.mark.usefixtures("long_memory")
def test_a_lost_subscription_is_noticed(
    key: str, new_client: Callable[[], redis.Redis], new_cache: NewCache
) -> None:
    """G-06: the cache notices a connection that was reopened and has no subscription."""
    client = new_client()
    cache = Cache(client)
    cache.get_or_load(key, lambda: "v1", TTL)
    client.connection_pool.disconnect()
    new_cache().invalidate(key)
    wait_until(lambda: cache.get_or_load(key, lambda: "v2", TTL) == "v2", "news")


@pytest.mark.parametrize("pattern", ["{key}", "{key}*"])
def test_what_was_read_before_an_invalidation_is_not_stored_after_it(
    pattern: str, key: str, new_cache: NewCache
) -> None:
    """G-06: an invalidation takes the lease away from the reader that is loading."""
    reader, other = new_cache(), new_cache()

    def overtaken() -> str:
        other.invalidate(pattern.format(key=key))
        return "v1"

    assert reader.get_or_load(key, overtaken, TTL) == "v1", "its read began before the change"
    assert reader.get_or_load(key, lambda: "v2", TTL) == "v2"
    assert other.get_or_load(key, never, TTL) == "v2"


def test_a_reader_after_an_invalidation_does_not_join_the_flight_before_it(
    key: str, new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-06: a reader that asks after the change gets the new value, though an old load runs."""
    monkeypatch.setattr(invalidation, "TRUSTED_SECONDS", -1.0)  # no message is on its way
    cache, other = new_cache(), new_cache()
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(60)
        return "v1"

    def late() -> object:
        assert begun.wait(60)
        other.invalidate(key)
        value = cache.get_or_load(key, lambda: "v2", TTL)
        go_on.set()
        return value

    assert together(lambda: cache.get_or_load(key, slow, TTL), late) == ["v1", "v2"]
    assert cache.get_or_load(key, never, TTL) == "v2"


def test_only_the_star_is_special(new_cache: NewCache) -> None:
    """G-06: in a pattern only `*` is special; brackets and question marks match themselves."""
    cache = new_cache()
    name = str(uuid4())
    for key in (f"{name}[a]?:1", f"{name}a?:1"):
        cache.get_or_load(key, lambda: "v", TTL)
    assert cache.invalidate(f"{name}[a]?:*") == 1
    assert cache.get_or_load(f"{name}a?:1", never, TTL) == "v"


def test_invalidations_go_over_the_channel_of_the_source(
    key: str, new_cache: NewCache, new_client: Callable[[], redis.Redis]
) -> None:
    """G-15: invalidations use channel:cache_invalidation."""
    assert CHANNEL == "channel:cache_invalidation"
    listener = new_client().pubsub()  # type: ignore[no-untyped-call]
    listener.subscribe(CHANNEL)
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    new_cache().invalidate(key)
    assert listener.get_message(timeout=5)["data"] == key


# Write-through ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("long_memory")
def test_write_through_writes_both(key: str, things: Truth, new_cache: NewCache) -> None:
    """G-06: the next reader in any process finds the new value without a query to PostgreSQL."""
    cache, other = new_cache(), new_cache()
    for each in (cache, other):
        each.get_or_load(key, lambda: "v1", TTL)
    cache.write_through(key, "v2", lambda value: things.write(key, value), TTL)
    assert things.read(key) == "v2"
    assert cache.get_or_load(key, never, TTL) == "v2"
    wait_until(lambda: other.get_or_load(key, never, TTL) == "v2", "the news")


def test_a_failed_write_leaves_nothing_of_it(key: str, things: Truth, new_cache: NewCache) -> None:
    """G-06: compensation: PostgreSQL is unchanged, the entry is empty, no reader waits."""
    things.write(key, "v1")
    cache = new_cache()

    def fail(_: str) -> None:
        raise Broken

    with pytest.raises(Broken):
        cache.write_through(key, "v2", fail, TTL)
    assert cache.get_or_load(key, lambda: things.read(key), TTL) == "v1"
    assert new_cache().get_or_load(key, never, TTL) == "v1", "and it is cached again"


def test_no_reader_stores_the_old_value_while_the_truth_changes(
    key: str, new_cache: NewCache
) -> None:
    """G-06: a reader during the write gets the value of PostgreSQL and does not store it."""
    cache, reader = new_cache(), new_cache()
    seen = []

    def write(_: str) -> None:
        seen.append(reader.get_or_load(key, lambda: "v1", TTL))

    cache.write_through(key, "v2", write, TTL)
    assert seen == ["v1"]
    assert reader.get_or_load(key, never, TTL) == "v2"


def test_of_two_writers_at_once_the_last_commit_stays(key: str, new_cache: NewCache) -> None:
    """G-06: a writer that was overtaken stores nothing; readers get the last commit."""
    truth: list[str] = []
    inner, outer = new_cache(), new_cache()

    def write(value: str) -> None:
        inner.write_through(key, "inner", truth.append, TTL)
        truth.append(value)

    outer.write_through(key, "outer", write, TTL)
    assert new_cache().get_or_load(key, lambda: truth[-1], TTL) == "outer"


def test_a_writer_killed_after_its_commit_leaves_nothing_stale(
    key: str, things: Truth, new_worker: Callable[[], Process], new_cache: NewCache
) -> None:
    """G-06: the entry is deleted before the write, so the cache has no old value to return."""
    things.write(key, "v1")
    cache = new_cache()
    cache.get_or_load(key, lambda: things.read(key), TTL)
    with pytest.raises(EOFError):
        new_worker()("die_after_commit", key, "v2")
    assert cache.get_or_load(key, lambda: things.read(key), TTL) == "v2"


def test_a_cache_write_that_fails_after_the_commit_leaves_nothing_stale(
    key: str, things: Truth, own_client: redis.Redis, no_pause: None
) -> None:
    """G-06: Redis does not answer during the commit and comes back with its old data."""
    things.write(key, "v1")
    cache = Cache(own_client)
    cache.get_or_load(key, lambda: things.read(key), TTL)
    server = own_client.info("server")["process_id"]

    def write(value: str) -> None:
        things.write(key, value)
        os.kill(server, signal.SIGSTOP)

    try:
        cache.write_through(key, "v2", write, TTL)
        assert cache.get_or_load(key, lambda: things.read(key), TTL) == "v2"
    finally:
        os.kill(server, signal.SIGCONT)
    assert cache.get_or_load(key, lambda: things.read(key), TTL) == "v2"
    assert cache.get_or_load(key, never, TTL) == "v2", "and the cache works again"


def test_an_invalidation_during_an_outage_is_done_before_the_next_read(
    key: str, own_client: redis.Redis, no_pause: None
) -> None:
    """G-06: after an outage Redis has its old data, and the cache does not use it."""
    cache = Cache(own_client)
    cache.get_or_load(key, lambda: "v1", TTL)
    server = own_client.info("server")["process_id"]
    os.kill(server, signal.SIGSTOP)
    try:
        cache.invalidate(key)
    finally:
        os.kill(server, signal.SIGCONT)
    assert cache.get_or_load(key, lambda: "v2", TTL) == "v2"


# Without Redis ------------------------------------------------------------------------------------


def test_redis_stopped_in_the_middle_and_back(
    key: str, things: Truth, own_valkey: MortalValkey, own_client: redis.Redis, no_pause: None
) -> None:
    """G-06, G-16: PostgreSQL answers during the outage; then the cache works without a restart."""
    things.write(key, "v1")
    cache = Cache(own_client)

    def read() -> object:
        return cache.get_or_load(key, lambda: things.read(key), TTL)

    assert read() == "v1"
    own_valkey.stop()
    things.write(key, "v2")
    assert read() == "v2", "what cannot be validated is not served"
    things.write(key, "v3")
    assert read() == "v3", "and not kept"
    own_valkey.start()
    reads = things.reads
    assert [read(), read()] == ["v3", "v3"]
    assert things.reads == reads + 1


def test_without_redis_threads_still_share_one_load(
    key: str, things: Truth, no_valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-10: threads of one process share one load without Redis."""
    things.write(key, "v1")
    cache = Cache(valkey_module.connect(no_valkey))
    go_on = threading.Event()
    joined: list[object] = []
    wait = cache._wait

    def join(*flight: Any) -> object:
        joined.append(flight)
        return wait(*flight)

    def load() -> object:
        assert go_on.wait(60)
        return things.read(key)

    def read() -> object:
        return cache.get_or_load(key, load, TTL)

    def release() -> object:
        wait_until(lambda: len(joined) == 49, "all others to join the first one's flight")
        go_on.set()
        return "v1"

    monkeypatch.setattr(cache, "_wait", join)
    assert together(*[read] * 50, release) == ["v1"] * 51
    assert things.reads == 1


def test_a_failing_redis_is_left_alone_for_a_moment(no_valkey: str) -> None:
    """G-16: one caller waits for the timeout, the others do not."""
    asked = []
    redis_ = valkey_module.BestEffort(valkey_module.connect(no_valkey), "test")

    def ask(client: redis.Redis) -> str:
        asked.append(1)
        return str(client.get("a"))

    assert [redis_.attempt(ask, "gone") for _ in range(3)] == ["gone"] * 3
    assert len(asked) == 1
    assert redis_.attempt(ask, "gone", insist=True) == "gone"
    assert len(asked) == 2
