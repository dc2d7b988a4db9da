"""G-01, G-16, G-17: the pool counts its queue and replaces killed and frozen backends."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from uuid import UUID

import pytest
import redis
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.conftest import Servers
from tests.integration.support import Client, together, wait_until

from skald import pools
from skald.postgres import Database, probe
from skald.postgres import pool as pools_of_postgres
from skald.postgres.slots import PoolExhausted, PoolStatistics
from skald.valkey import connect


@pytest.fixture
def pool(servers: Servers) -> Iterator[Database]:
    """A pool of two connections with a timeout of a tenth of a second."""
    pool = Database(servers.app_dsn, size=2, wait_seconds=0.1)
    yield pool
    pool.close()


class Patience(threading.Condition):
    """A gate for threads that want a connection: it opens for one, or when a test says so."""

    is_over = False

    def wait_for[T](self, predicate: Callable[[], T], timeout: float | None = None) -> T:  # noqa: ARG002
        super().wait_for(lambda: self.is_over or predicate(), 60)
        return predicate()

    def end(self) -> None:
        with self:
            self.is_over = True
            self.notify_all()


@pytest.fixture
def patience(pool: Database, monkeypatch: pytest.MonkeyPatch) -> Patience:
    """The gate at which threads wait for the pool."""
    patience = Patience()
    monkeypatch.setattr(pool._slots, "_changed", patience)
    return patience


def backend(pool: Database, tenant: UUID) -> int:
    with pool.transaction(tenant) as tx:
        return int(tx.value("select pg_backend_pid()"))


def test_refusal_tells_the_length_of_the_queue(
    pool: Database, tenant: UUID, patience: Patience
) -> None:
    """G-16: an exhausted pool answers 503 with the length of the queue and `Retry-After`."""

    def ask() -> PoolExhausted | None:
        with pytest.raises(PoolExhausted) as refused:
            backend(pool, tenant)
        return refused.value

    def end() -> None:
        wait_until(lambda: pool.statistics().waiting == 3, "all to wait")
        patience.end()

    with pool.transaction(tenant), pool.transaction(tenant):
        refusals = [refusal for refusal in together(ask, ask, ask, end) if refusal]
    assert len(refusals) == 3
    assert {(refusal.status, refusal.code) for refusal in refusals} == {(503, "pool_exhausted")}
    assert all(int(refusal.headers["Retry-After"]) > 0 for refusal in refusals)
    assert max(refusal.extra["queue_length"] for refusal in refusals) == 3
    assert pool.statistics().refused == 3
    assert backend(pool, tenant) > 0


def test_statistics_are_right(pool: Database, tenant: UUID, patience: Patience) -> None:
    """G-01: connections in use, idle connections, waiting callers, and the totals."""

    def wait() -> PoolStatistics | None:
        with suppress(PoolExhausted):
            backend(pool, tenant)
        return None

    def watch() -> PoolStatistics | None:
        wait_until(lambda: pool.statistics().waiting == 1, "somebody to wait")
        seen = pool.statistics()
        patience.end()
        return seen

    with pool.transaction(tenant), pool.transaction(tenant):
        busy, _ = together(watch, wait)
    assert busy
    assert (busy.size, busy.active, busy.idle, busy.served, busy.waiting) == (2, 2, 0, 2, 1)
    free = pool.statistics()
    assert (free.active, free.idle, free.waiting, free.refused) == (0, 2, 0, 1)


def test_a_killed_backend_is_replaced_at_once(
    pool: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-16: the pool notices the end of a connection without a probe, after any idle time."""
    first = backend(pool, tenant)
    admin.execute("select pg_terminate_backend(%s, 5000)", (first,))
    assert backend(pool, tenant) != first
    assert pool.statistics().replaced == 1


def test_a_frozen_backend_is_replaced(
    pool: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-01: a connection that accepts data and sends no answer does not block its caller."""
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(pools_of_postgres, "PROBE_AFTER_SECONDS", 0.0)
    first = backend(pool, tenant)
    os.kill(first, signal.SIGSTOP)
    try:
        assert backend(pool, tenant) != first
    finally:
        os.kill(first, signal.SIGCONT)


@pytest.mark.parametrize("limit", ["IDLE_SECONDS", "LIFETIME_SECONDS"])
def test_old_connections_are_replaced(
    limit: str, pool: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-01: idle_timeout 300 s, max_lifetime 3600 s."""
    first = backend(pool, tenant)
    monkeypatch.setattr(pools_of_postgres, limit, -1.0)
    assert backend(pool, tenant) != first


def test_closing_waits_for_transactions_under_way(pool: Database, tenant: UUID) -> None:
    """G-01: graceful shutdown: a running transaction keeps its connection."""
    inside, closing = threading.Event(), threading.Event()

    def work() -> int:
        with pool.transaction(tenant) as tx:
            inside.set()
            assert closing.wait(60)
            return int(tx.value("select 1"))

    def close() -> int:
        assert inside.wait(60)
        closing.set()
        pool.close()
        return pool.statistics().idle

    assert together(work, close) == [1, 0]


def test_a_redis_that_hangs_is_given_up() -> None:
    """G-01: timeouts and retries are explicit and end in a few seconds."""

    def given_up_after() -> float:
        begun = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            client.get("anything")
        return time.monotonic() - begun

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = connect(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")
        # The machine may stop this process too, but not at each attempt.
        assert any(1 <= given_up_after() < 8 for _ in range(3))
        client.close()


def test_health_is_seen(pool: Database, servers: Servers) -> None:
    """G-01: the health check sees a server that lives and one that does not."""
    assert pool.is_healthy()
    assert not Database(servers.app_dsn.replace("/skald_test", "/nowhere"), size=1).is_healthy()


def test_figures_are_published_once_a_minute(
    database: Database, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-15, G-17: pool_stats:pg and pool_stats:redis, one minute each."""
    valkey.delete("pool_stats:pg", "pool_stats:redis")
    monkeypatch.setattr(pools, "_published_at", 0.0)
    pools.publish()
    assert json.loads(str(valkey.get("pool_stats:pg")))["size"] == 8
    assert json.loads(str(valkey.get("pool_stats:redis")))["size"] == 50
    assert 0 < int(valkey.ttl("pool_stats:pg")) <= 60
    valkey.delete("pool_stats:pg")
    pools.publish()
    assert not valkey.exists("pool_stats:pg"), "it was published a moment ago"


def test_a_request_publishes_them(
    api: Client, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-17: pool_connections_active counts the connection of the request that published it."""
    monkeypatch.setattr(pools, "_published_at", 0.0)
    assert api("GET", "/batches").status == 200
    assert json.loads(str(valkey.get("pool_stats:pg")))["active"] == 1


def test_health_names_both_pools(database: Database, valkey: redis.Redis) -> None:
    """G-01: one route shows the health of both pools."""
    health = pools.health()
    assert health["postgres"]["is_healthy"]
    assert health["redis"]["is_healthy"]
    assert health["postgres"]["size"] == 8


def test_a_hundred_threads_share_the_clients_connections(valkey: redis.Redis) -> None:
    """G-01: at most fifty connections to Redis; a thread that finds all busy waits."""
    assert together(*[valkey.ping] * 100) == [True] * 100
    (idle, _), (active, _) = valkey.connection_pool.get_connection_count()
    assert idle + active <= 50
