"""G-14: there are never more holders than the limit, and the slots of dead holders become free."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from uuid import uuid4

import pytest
import redis
from tests.integration.support import together
from tests.integration.valkey.process import Process, Refused

from skald.valkey import connect
from skald.valkey.semaphore import NoSlot, Semaphore, SlotLost

SHORT = 1.0


@pytest.fixture
def name() -> str:
    return str(uuid4())


def pass_time(valkey: redis.Redis, name: str, seconds: float) -> None:
    """Move the end of all leases this far back, as if the time had passed."""
    key = f"semaphore:{name}"
    for holder in valkey.zrange(key, 0, -1):
        valkey.zincrby(key, -1_000 * seconds, str(holder))


def test_never_more_than_the_limit(valkey: redis.Redis, name: str) -> None:
    """G-14: twelve threads share three slots, and each gets a slot in the end."""
    guard = threading.Lock()
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with Semaphore(valkey, name, 3).held(wait_seconds=30):
            with guard:
                inside.append(1)
                most.append(len(inside))
            valkey.ping()
            with guard:
                inside.pop()

    together(*[work] * 12)
    assert len(most) == 12
    assert max(most) <= 3


def test_the_last_slot_is_the_last(valkey: redis.Redis, name: str) -> None:
    """G-14: three get a slot, the fourth does not."""
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Semaphore(valkey, name, 3).held())
        with pytest.raises(NoSlot), Semaphore(valkey, name, 3).held():
            pass


def test_the_living_do_not_keep_the_slots_of_the_dead(
    valkey: redis.Redis, name: str, new_worker: Callable[[], Process]
) -> None:
    """G-14: one holder lives, one was killed: only the slot of the killed one becomes free."""
    with Semaphore(valkey, name, 2).held():
        worker = new_worker()
        worker("take_slot", name, 2, SHORT)
        worker.kill()
        with Semaphore(valkey, name, 2).held(wait_seconds=60):
            pass


def test_the_killed_give_back_what_they_held(
    valkey: redis.Redis, name: str, new_worker: Callable[[], Process]
) -> None:
    """G-14: SIGKILL of both holders frees both slots after their leases, not before."""
    first, second, third = (new_worker() for _ in range(3))
    for worker in (first, second):
        worker("take_slot", name, 2, 30.0)
    for worker in (first, second):
        worker.kill()
    assert not takes(third, name), "they could not give them back"
    pass_time(valkey, name, 30.0)
    assert [takes(third, name) for _ in range(3)] == [True, True, False]


def takes(worker: Process, name: str) -> bool:
    try:
        worker("take_slot", name, 2, 30.0)
    except Refused:
        return False
    return True


def test_refusal_says_when_to_come_again(valkey: redis.Redis, name: str) -> None:
    """G-16: overload answers 503 with `Retry-After`."""
    with Semaphore(valkey, name, 1).held():
        with pytest.raises(NoSlot) as refused, Semaphore(valkey, name, 1).held():
            pass
        assert refused.value.status == 503
        assert int(refused.value.headers["Retry-After"]) > 0


def test_renewal_keeps_a_slot(valkey: redis.Redis, name: str) -> None:
    """G-14: a holder that renews its slot keeps it."""
    with Semaphore(valkey, name, 1, lease_seconds=30.0).held() as renew:
        for _ in range(3):
            pass_time(valkey, name, 20.0)
            renew()
            assert 0 < int(valkey.pttl(f"semaphore:{name}")) <= 30_000
        with pytest.raises(NoSlot), Semaphore(valkey, name, 1).held():
            pass


def test_a_slot_that_ran_out_cannot_be_renewed(valkey: redis.Redis, name: str) -> None:
    """G-14: the holder gets an error and does not hold two slots."""
    with (
        Semaphore(valkey, name, 1, lease_seconds=0.05).held() as renew,
        Semaphore(valkey, name, 1).held(wait_seconds=60),
        pytest.raises(SlotLost),
    ):
        renew()


def test_where_redis_cannot_count_no_slot_is_given(no_valkey: str, name: str) -> None:
    """G-14: the semaphore protects others, so it fails closed, with an error that callers retry."""
    with pytest.raises(redis.ConnectionError), Semaphore(connect(no_valkey), name, 1).held():
        pass
