"""Properties of limits: requests a minute, connections, and the holder of a lock."""

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.conftest import Servers
from tests.integration.support import call, proxy_event, together

from skald.entrypoints.http import Api
from skald.postgres import Database
from skald.postgres.slots import PoolExhausted
from skald.valkey.lock import Lock, Locked
from skald.valkey.rate_limit import RateLimit

SIZE = 2


@pytest.fixture(scope="module")
def pool(servers: Servers) -> Iterator[Database]:
    """A small pool for this test alone."""
    pool = Database(servers.app_dsn, size=SIZE, wait_seconds=0.02)
    yield pool
    pool.close()


@given(limit=st.integers(1, 8), requests=st.integers(1, 16))
def test_requests_over_the_limit_are_refused(
    limit: int, requests: int, valkey: redis.Redis
) -> None:
    """
    **功能: architecture-deep-integration, 属性 14: 限流响应正确性**
    **验证: 需求 7.5**
    """
    limits, who = RateLimit(valkey, "property", limit), uuid4()
    api = Api(authenticated=False)
    api.route("GET", "/limited")(lambda: limits.take(who))
    event = proxy_event("GET", "/limited")

    answers = together(*[lambda: call(api.handler, event)] * requests)
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == max(0, requests - limit)
    for answer in refused:
        assert answer.headers["retry-after"].isdecimal()
        assert int(answer.headers["retry-after"]) > 0
        assert answer.body["code"] == "too_many_requests"


@given(uses=st.lists(st.sampled_from(["commits", "fails", "breaks"]), min_size=1, max_size=5))
def test_connections_come_back_and_waiting_ends(
    uses: list[str], pool: Database, tenant: UUID
) -> None:
    """
    **功能: architecture-deep-integration, 属性 15: 连接池资源管理**
    **验证: 需求 8.2, 8.4**
    """

    def use(kind: str) -> None:
        try:
            with pool.transaction(tenant) as tx:
                assert 1 <= pool.statistics().active <= SIZE
                if kind == "fails":
                    tx.execute("select 1 / 0")
                if kind == "breaks":
                    tx.execute("select pg_terminate_backend(pg_backend_pid())")
        except (psycopg.Error, PoolExhausted):
            pass

    together(*[lambda kind=kind: use(kind) for kind in uses])
    after = pool.statistics()
    assert (after.active, after.waiting) == (0, 0)
    assert after.idle <= SIZE
    with pool.transaction(tenant), pool.transaction(tenant):
        with pytest.raises(PoolExhausted, match="all 2 database connections are busy"):
            use_one_more(pool, tenant)
        assert pool.statistics().active == SIZE
    assert pool.statistics().idle == SIZE


def use_one_more(pool: Database, tenant: UUID) -> None:
    with pool.transaction(tenant):
        pass


@given(
    patience=st.lists(st.sampled_from([0.0, 60.0]), min_size=2, max_size=4),
    is_redis_forgetful=st.booleans(),
)
def test_one_workflow_at_a_time_holds_the_lock(
    patience: list[float],
    is_redis_forgetful: bool,
    database: Database,
    valkey: redis.Redis,
    tenant: UUID,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 22: 分布式锁互斥性**
    **验证: 需求 10.4**
    """
    resource = uuid4()
    alone = threading.Lock()

    def work(wait_seconds: float) -> bool:
        lock = Lock(database, valkey, tenant, "resource", resource)
        try:
            with lock.held(wait_seconds):
                assert alone.acquire(blocking=False), "another workflow holds it"
                if is_redis_forgetful:
                    valkey.delete(f"lock:resource:{tenant}:{resource}")
                valkey.ping()
                alone.release()
                return True
        except Locked:
            return False

    outcomes = together(*[lambda wait=wait: work(wait) for wait in patience])
    assert any(outcomes)
    assert all(done for done, wait in zip(outcomes, patience, strict=True) if wait)
