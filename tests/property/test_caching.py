"""Properties 5 to 8 of the cache: equal stores, order of queries, invalidation, compensation."""

import json
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.conftest import Servers
from tests.integration.support import wait_until
from tests.integration.valkey import truth
from tests.integration.valkey.truth import Truth

from skald.postgres import Database
from skald.valkey import cache, connect
from skald.valkey.cache import Cache

TTL = 3600

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
results = st.fixed_dictionaries(
    {
        "score": st.floats(0, 100, width=32),
        "max_score": st.integers(0, 100),
        "feedback": texts | st.none(),
        "marks": st.lists(st.booleans(), max_size=3),
    }
)
questions = st.text("abc*[]?:\\ 评", min_size=1, max_size=6)


@pytest.fixture(scope="module")
def things(admin: Connection[DictRow], database: Database) -> Iterator[Truth]:
    """Grading results in PostgreSQL."""
    with truth.table(admin):
        yield Truth(database, uuid4())


@pytest.fixture(scope="module")
def workers(servers: Servers) -> Iterator[list[Cache]]:
    """The caches of three worker nodes, with their own connections as separate processes have."""
    clients = [connect(servers.redis_dsn) for _ in range(3)]
    yield [Cache(client) for client in clients]
    for client in clients:
        client.close()


@pytest.fixture(scope="module", autouse=True)
def _long_memory() -> Iterator[None]:
    """Local entries do not expire, so only an invalidation removes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "LOCAL_SECONDS", 3600.0)
        yield


def new_key(question: str = "q") -> str:
    return f"hot_cache:grading_result:{uuid4()}:{question}"


def loader(things: Truth, key: str) -> Callable[[], object]:
    return lambda: things.read(key)


class Refused(Exception):
    """The error of a database write in these tests."""


@given(question=questions, values=st.lists(results, min_size=1, max_size=4))
def test_written_through_both_stores_are_the_same(
    question: str,
    values: list[object],
    things: Truth,
    workers: list[Cache],
    valkey: redis.Redis,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 5: 写入同步一致性**
    **验证: 需求 3.1, 3.4**
    """
    key = new_key(question)
    for number, value in enumerate(values):
        writer = workers[number % len(workers)]
        writer.write_through(key, value, lambda new: things.write(key, new), TTL)
        assert json.loads(str(valkey.get(key))) == things.read(key) == value
        assert writer.get_or_load(key, loader(things, key), TTL) == value


@given(question=questions, value=results, is_cached=st.booleans())
def test_redis_is_asked_first_and_filled_after(
    question: str,
    value: object,
    is_cached: bool,
    things: Truth,
    workers: list[Cache],
    valkey: redis.Redis,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 6: 缓存查询顺序正确性**
    **验证: 需求 3.2**
    """
    key = new_key(question)
    things.write(key, value)
    if is_cached:
        valkey.set(key, json.dumps(value), ex=TTL)
    reads = things.reads
    for worker in workers:
        assert worker.get_or_load(key, loader(things, key), TTL) == value
    assert things.reads - reads == (0 if is_cached else 1)
    assert json.loads(str(valkey.get(key))) == value
    assert 0 < int(valkey.ttl(key)) <= TTL


@given(
    question=questions,
    before=results,
    after=results,
    publisher=st.integers(0, 2),
    by_pattern=st.booleans(),
)
def test_an_update_reaches_every_worker(
    question: str,
    before: object,
    after: object,
    publisher: int,
    by_pattern: bool,
    things: Truth,
    workers: list[Cache],
) -> None:
    """
    **功能: architecture-deep-integration, 属性 7: 缓存失效通知传播**
    **验证: 需求 3.3**
    """
    key = new_key(question)
    things.write(key, before)
    for worker in workers:
        worker.get_or_load(key, loader(things, key), TTL)
    things.write(key, after)
    workers[publisher].invalidate(key[: -len(question)] + "*" if by_pattern else key)
    assert workers[publisher].get_or_load(key, loader(things, key), TTL) == after
    for worker in workers:
        wait_until(
            lambda worker=worker: worker.get_or_load(key, loader(things, key), TTL) == after,  # type: ignore[misc]
            "the news to arrive",
        )


@given(question=questions, before=results | st.none(), after=results, was_cached=st.booleans())
def test_a_failed_database_write_takes_the_cache_entry_back(
    question: str,
    before: object,
    after: object,
    was_cached: bool,
    things: Truth,
    workers: list[Cache],
    valkey: redis.Redis,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 8: 补偿操作正确性**
    **验证: 需求 4.2**
    """
    key = new_key(question)
    if before is not None:
        things.write(key, before)
    if was_cached:
        workers[0].get_or_load(key, loader(things, key), TTL)

    def fail(_: object) -> None:
        raise Refused

    with pytest.raises(Refused):
        workers[0].write_through(key, after, fail, TTL)
    assert valkey.get(key) is None
    assert things.read(key) == before
    for worker in workers[:2]:
        assert worker.get_or_load(key, loader(things, key), TTL) == before
