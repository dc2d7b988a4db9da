"""G-14: one process holds the lock at a time, and a holder whose lease ended cannot write."""

import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
import redis
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.support import MortalValkey, together, wait_until, wait_until_blocked
from tests.integration.valkey import truth
from tests.integration.valkey.process import Process, Refused
from tests.integration.valkey.truth import Truth

from skald.postgres import Database
from skald.valkey import connect
from skald.valkey.lock import Lock, Locked, LockLost

type NewLock = Callable[..., Lock]

SHORT = 0.3


@pytest.fixture
def thing() -> str:
    return str(uuid4())


@pytest.fixture
def new_lock(database: Database, valkey: redis.Redis, tenant: UUID, thing: str) -> NewLock:
    """A factory of locks on the thing, each as another process has it."""

    def make(client: redis.Redis = valkey, lease_seconds: float = 30.0) -> Lock:
        return Lock(database, client, tenant, "thing", thing, lease_seconds=lease_seconds)

    return make


def run_out(admin: Connection[DictRow], tenant: UUID) -> None:
    """End the tenant's leases."""
    admin.execute("update skald.locks set leased_until = now() where tenant_id = %s", (tenant,))


def test_processes_take_turns(thing: str, things: Truth, new_worker: Callable[[], Process]) -> None:
    """G-14: three processes read, add and write at once under the lock, and no addition is lost."""
    things.write(thing, 0)
    workers = [new_worker() for _ in range(3)]
    for worker in workers:
        worker.order("count_under_lock", thing, 15)
    for worker in workers:
        worker.answer()
    assert things.read(thing) == 45


def test_a_taken_lock_is_waited_for_or_refused(new_lock: NewLock) -> None:
    """G-14: the others wait or time out; after the release they get the lock."""
    with new_lock().held():
        with pytest.raises(Locked) as refused, new_lock().held(wait_seconds=0.1):
            pass
        assert int(refused.value.headers["Retry-After"]) > 0
    with new_lock().held():
        pass


def test_a_waiter_gets_it_when_its_holder_leaves(new_lock: NewLock) -> None:
    """G-14: a waiter gets the lock at the release and does not wait for the end of the lease."""
    taken = threading.Event()
    waits = threading.Event()

    def hold() -> int:
        with new_lock().held() as lease:
            taken.set()
            assert waits.wait(60)
            return lease.token

    def wait() -> int:
        assert taken.wait(60)
        waits.set()
        with new_lock().held(wait_seconds=10) as lease:
            return lease.token

    first, second = together(hold, wait)
    assert second > first


def test_tokens_grow(new_lock: NewLock) -> None:
    """G-14: a fencing token is greater than all earlier ones, though released rows are deleted."""
    tokens = []
    for _ in range(3):
        with new_lock().held() as lease:
            tokens.append(lease.token)
    assert tokens == sorted(set(tokens))


def test_the_lock_of_another_tenant_is_another(
    database: Database, valkey: redis.Redis, thing: str, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: another tenant that knows the id locks another resource."""
    with (
        Lock(database, valkey, other_tenant, "thing", thing).held(),
        Lock(database, valkey, tenant, "thing", thing).held(),
    ):
        pass


def test_the_key_is_the_one_of_the_source(
    new_lock: NewLock, valkey: redis.Redis, tenant: UUID, thing: str
) -> None:
    """G-15: lock:{resource_type}:{resource_id}, 30 s."""
    begun = time.monotonic()
    with new_lock().held():
        left = int(valkey.pttl(f"lock:thing:{tenant}:{thing}"))
        passed = 1_000 * (time.monotonic() - begun)
        assert 30_000 - passed - 1 <= left <= 30_000
    assert not valkey.exists(f"lock:thing:{tenant}:{thing}")


# Leases -------------------------------------------------------------------------------------------


def test_renewal_keeps_it_beyond_its_lease(
    new_lock: NewLock, admin: Connection[DictRow], tenant: UUID, valkey: redis.Redis
) -> None:
    """G-14: a renewed lock stays locked after the end of its first lease."""
    key = new_lock()._key
    with new_lock(lease_seconds=30.0).held() as lease:
        for _ in range(3):
            admin.execute(
                "update skald.locks set leased_until = leased_until - interval '20 s'"
                " where tenant_id = %s",
                (tenant,),
            )
            valkey.pexpire(key, 10_000)
            lease.renew()
            assert int(valkey.pttl(key)) > 10_000
        valkey.delete(key)  # PostgreSQL too keeps others out
        with pytest.raises(Locked), new_lock().held():
            pass


def test_a_dead_holder_frees_it_by_its_lease(
    thing: str, new_worker: Callable[[], Process], new_lock: NewLock
) -> None:
    """G-14: after SIGKILL of the holder the lock is taken until the end of its lease."""
    worker = new_worker()
    token = worker("lock", thing, SHORT, 0)
    worker.kill()
    with new_lock().held(wait_seconds=60) as lease:
        assert lease.token > token


def test_the_write_of_a_holder_after_its_lease_is_refused(
    thing: str,
    things: Truth,
    new_worker: Callable[[], Process],
    new_lock: NewLock,
    admin: Connection[DictRow],
    tenant: UUID,
    valkey: redis.Redis,
) -> None:
    """G-14: the holder freezes, its lease ends, another takes the lock; its token is refused."""
    worker = new_worker()
    worker("lock", thing, 30.0, 0)
    worker("write_under_lock", thing, "the first holder's")
    worker.freeze()
    run_out(admin, tenant)
    valkey.delete(new_lock()._key)
    with new_lock().held(wait_seconds=60):
        things.write(thing, "the second holder's")
        worker.thaw()
        with pytest.raises(Refused, match="lock_lost"):
            worker("write_under_lock", thing, "too late")
        with pytest.raises(Refused, match="lock_lost"):
            worker("renew")
    with pytest.raises(Refused, match="lock_lost"):
        worker("write_under_lock", thing, "too late")
    assert things.read(thing) == "the second holder's"


def test_a_late_release_by_the_old_holder_does_not_free_the_lock(
    new_lock: NewLock, admin: Connection[DictRow], tenant: UUID, valkey: redis.Redis
) -> None:
    """G-14: a release frees the lock only for its current holder."""
    with new_lock().held():
        run_out(admin, tenant)
        valkey.delete(new_lock()._key)
        late = new_lock().held()
        late.__enter__()
    with pytest.raises(Locked), new_lock().held():
        pass
    late.__exit__(None, None, None)


def test_taking_over_waits_for_a_write_under_the_old_token(
    new_lock: NewLock,
    database: Database,
    things: Truth,
    tenant: UUID,
    thing: str,
    valkey: redis.Redis,
    admin: Connection[DictRow],
) -> None:
    """G-14: the check of the token holds until the commit: no old write comes after a takeover."""

    def take_over() -> str:
        with new_lock().held():
            return str(things.read(thing))

    def write() -> str:
        with new_lock().held() as lease, database.transaction(tenant) as tx:
            lease.check(tx)
            run_out(admin, tenant)
            valkey.delete(new_lock()._key)
            checked.set()
            wait_until_blocked(admin)
            truth.put(tx, thing, "in time")
        return ""

    checked = threading.Event()
    _, seen = together(write, lambda: take_over() if checked.wait(60) else "never checked")
    assert seen == "in time"


def test_renewal_does_not_wait_for_writes_under_its_own_token(
    new_lock: NewLock, database: Database, tenant: UUID
) -> None:
    """G-14: a long transaction under the lock does not lose the lock."""
    with new_lock().held() as lease, database.transaction(tenant) as tx:
        lease.check(tx)
        lease.renew()


# Redis --------------------------------------------------------------------------------------------


def test_a_redis_that_lost_the_key_lets_no_second_holder_in(
    new_lock: NewLock, valkey: redis.Redis
) -> None:
    """G-14: PostgreSQL decides; a failover that loses the key does not break mutual exclusion."""
    with new_lock().held() as lease:
        valkey.delete(new_lock()._key)
        with pytest.raises(Locked), new_lock().held():
            pass
        lease.renew()


def test_it_works_without_redis(new_lock: NewLock, no_valkey: str) -> None:
    """G-14, G-16: without Redis the lock is slower and still correct."""
    client = connect(no_valkey)
    with new_lock(client).held() as lease:
        with pytest.raises(Locked), new_lock(client).held():
            pass
        lease.renew()
    with new_lock(client).held():
        pass


def test_it_survives_the_end_of_redis(
    new_lock: NewLock, own_valkey: MortalValkey, own_client: redis.Redis, database: Database
) -> None:
    """G-14: Redis dies while the lock is held and comes back empty; there is still one holder."""
    with new_lock(own_client).held() as lease:
        own_valkey.stop()
        lease.renew()
        own_valkey.start()
        with pytest.raises(Locked), new_lock(own_client).held():
            pass


def test_a_refused_claim_leaves_no_key_in_redis(
    new_lock: NewLock, database: Database, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-14: if PostgreSQL cannot be asked, the key in Redis is removed and refuses no caller."""

    def fail() -> int:
        raise LockLost("as good as any")

    lock = new_lock()
    monkeypatch.setattr(lock, "_claim", fail)
    with pytest.raises(LockLost), lock.held():
        pass
    with new_lock().held():
        pass
    wait_until(lambda: not valkey.exists(lock._key), "the gate")
