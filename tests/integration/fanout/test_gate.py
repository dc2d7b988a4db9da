"""V-05: the last task opens the gate, also when workers die and Redis loses its data."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import redis
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.fanout.work import GRADING, Grade, Work
from tests.integration.support import together, wait_until_blocked

import skald.valkey
from skald.errors import NotFound
from skald.fanout import Task, gate, rows
from skald.fanout.rows import FanOutKey
from skald.saga import tokens


def test_the_last_task_opens_the_gate(work: Work, answered: list[str]) -> None:
    """V-05: no earlier task opens it; failed tasks count too; then Redis keeps nothing."""
    work.open("a", "b")
    work.wait("token")
    assert work.deliver("a") == []
    assert answered == []
    assert work.deliver("b") == []
    assert answered == ["token"]
    assert list(skald.valkey.valkey().scan_iter(f"*{work.saga_id}*")) == []


def test_a_wait_that_comes_after_the_tasks_answers_itself(work: Work, answered: list[str]) -> None:
    """V-05: the tasks may end before the step waits for them."""
    work.open("a")
    work.deliver("a")
    assert answered == []
    work.wait("late")
    assert answered == ["late"]


def test_a_retried_wait_brings_a_new_token(work: Work, answered: list[str]) -> None:
    """V-05: the latest token gets the answer, also if the one before it got one."""
    work.open("a")
    work.wait("first")
    work.wait("second")
    work.deliver("a")
    assert answered == ["second"]
    work.wait("third")
    assert answered == ["second", "third"]


def test_nothing_to_do_is_done_at_once(work: Work, answered: list[str]) -> None:
    """V-05: a fan-out without tasks does not delay its step."""
    assert work.open() == 0
    work.wait("token")
    assert answered == ["token"]


def test_a_wait_for_nothing_is_an_error(work: Work) -> None:
    """V-05: a step that waits for a fan-out that does not exist would wait forever."""
    with pytest.raises(NotFound):
        work.wait("token")


def test_the_last_worker_and_the_wait_at_once_leave_no_gate_closed(
    work: Work, admin: Connection[DictRow], answered: list[str]
) -> None:
    """V-05: both write one row, so the second of them sees the first."""
    work.open("a")
    worker = work.claim("a")
    assert worker is not None
    with ThreadPoolExecutor(1) as pool:
        with work.database.transaction(work.tenant) as tx:
            GRADING.finish(tx, work.saga_id, "a", worker, Grade())
            waiting = pool.submit(work.wait, "token")
            wait_until_blocked(admin)
        waiting.result()
    assert answered == ["token"]


def test_two_last_workers_at_once_open_the_gate(work: Work, answered: list[str]) -> None:
    """V-05: several workers finish and arrive at the same moment; at least one sees all tasks."""
    for number in range(10):
        run = Work(work.database, work.tenant)
        run.open("a", "b")
        run.wait(f"token-{number}")
        together(*[partial(run.deliver, task_id) for task_id in "ab"])
        assert f"token-{number}" in answered


def test_an_open_gate_is_not_opened_again(work: Work, answered: list[str]) -> None:
    """V-05: a redelivery after the answer does nothing and does not ask Redis."""
    work.open("a")
    work.wait("token")
    for _ in range(3):
        work.deliver("a")
    assert answered == ["token"]
    assert list(skald.valkey.valkey().scan_iter(f"*{work.saga_id}*")) == []


def test_the_redelivery_arrives_for_a_dead_worker(work: Work, answered: list[str]) -> None:
    """V-05: the task is committed and the barrier is not; the redelivery arrives at the barrier."""
    work.open("a", "b", "c")
    work.wait("token")
    work.deliver("c")
    work.finish("a")
    work.deliver("b")
    assert answered == []
    work.deliver("a")
    assert answered == ["token"]


def test_an_answer_that_failed_is_given_again(
    work: Work, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-05: Step Functions did not get it, so the message comes back and opens the gate."""
    work.open("a")
    work.wait("token")

    def refuse(*_: object) -> bool:
        raise OSError("throttled")

    with monkeypatch.context() as patch:
        patch.setattr(tokens, "succeed", refuse)
        assert work.deliver("a") == ["m0"]
    assert work.deliver("a") == []
    assert answered == ["token"]


def test_an_overtaken_worker_does_not_arrive(work: Work, answered: list[str]) -> None:
    """V-05: the second worker still works on the task, so the gate stays closed."""
    work.open("a", "b")
    work.wait("token")
    work.deliver("b")

    def slow(_: Task) -> Grade:
        work.claim("a")  # SQS has delivered the task again
        return Grade()

    assert work.deliver("a", slow) == []
    assert (work.counts(), answered) == ((2, 1, 0), [])
    work.deliver("a")
    assert answered == ["token"]


def test_a_late_worker_neither_counts_nor_opens(work: Work, answered: list[str]) -> None:
    """V-06: the step gave the task up during the work; that step continues by itself."""
    work.open("a", "b")
    work.wait("timed out")
    work.deliver("b")

    def slow(_: Task) -> Grade:
        work.force()
        return Grade()

    assert work.deliver("a", slow) == []
    assert (work.counts(), answered) == ((2, 2, 1), [])


def test_a_new_token_is_not_taken_for_answered(
    work: Work, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-05: a retried wait brings its token while the earlier token gets its answer."""
    work.open("a")
    work.wait("first")
    succeed = tokens.succeed

    def overtaken(token: str, output: dict[str, object]) -> bool:
        if token == "first":  # noqa: S105
            with work.database.transaction(work.tenant) as tx:
                rows.keep_token(tx, GRADING.key(tx, work.saga_id), "second")
        return succeed(token, output)

    monkeypatch.setattr(tokens, "succeed", overtaken)
    work.deliver("a")
    work.arrive("a")
    assert answered == ["first", "second"]


# Redis --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before the first", "between", "before the last", "always"])
def test_a_flush_costs_nothing(
    work: Work, answered: list[str], valkey: redis.Redis, moment: str
) -> None:
    """V-05: Redis is rebuilt after a flush; the gate opens for the last task, not before."""
    names = ["a", "b", "c"]
    work.open(*names)
    work.wait("token")
    flushes = {"before the first": "a", "between": "b", "before the last": "c"}
    for name in names:
        if moment == "always" or flushes[moment] == name:
            valkey.flushdb()
        assert answered == []
        work.deliver(name)
    assert answered == ["token"]


def test_without_redis_the_counts_open_the_gate(
    work: Work,
    answered: list[str],
    no_valkey: str,
    configure: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """V-05, G-16: Redis is away from the beginning to the end, and no task row is read."""
    configure("REDIS_DSN", no_valkey)
    skald.valkey.valkey.cache_clear()

    def unreachable(*_: object) -> list[str]:
        raise AssertionError("the tasks were counted")

    monkeypatch.setattr(rows, "finished_tasks", unreachable)
    try:
        work.open("a", "b")
        work.wait("token")
        work.deliver("a")
        assert answered == []
        work.deliver("b")
        assert answered == ["token"]
    finally:
        skald.valkey.valkey().close()
        skald.valkey.valkey.cache_clear()


# The sweep ----------------------------------------------------------------------------------------


@pytest.fixture
def nothing_closed(admin: Connection[DictRow]) -> None:
    """Delete the gates of other tests, because the sweep sees all tenants."""
    admin.execute("truncate skald.fanouts cascade")


def sweep(is_time_left: bool = True) -> dict[str, int]:
    return gate.sweep(lambda: is_time_left)


def left_closed(work: Work, token: str) -> Work:
    """Return a fan-out whose last worker died before it arrived."""
    run = Work(work.database, work.tenant)
    run.open("a")
    run.wait(token)
    run.finish("a")
    return run


def test_the_sweep_opens_gates_that_stay_closed(
    work: Work, answered: list[str], admin: Connection[DictRow], nothing_closed: None
) -> None:
    """V-06: all tasks have ended without an arrival; after 5 minutes the sweep opens the gate."""
    run = left_closed(work, "token")
    run.age(admin, gate.CLOSED_FOR * 0.9)
    assert sweep() == {"closed": 0, "opened": 0}
    run.age(admin, gate.CLOSED_FOR * 0.2)
    assert sweep() == {"closed": 1, "opened": 1}
    assert answered == ["token"]
    assert sweep() == {"closed": 0, "opened": 0}


def test_the_sweep_leaves_the_others_alone(
    work: Work, answered: list[str], admin: Connection[DictRow], nothing_closed: None
) -> None:
    """V-06: running tasks, gates without a waiting step, and gates that are open or were forced."""
    under_way, not_awaited, opened, forced = (Work(work.database, work.tenant) for _ in range(4))
    for run in (under_way, not_awaited, opened, forced):
        run.open("a")
        if run is not not_awaited:
            run.wait("token")
    not_awaited.finish("a")
    opened.deliver("a")
    forced.force()
    answered.clear()
    for run in (not_awaited, opened, forced):
        run.age(admin, gate.CLOSED_FOR * 2)
    assert sweep() == {"closed": 0, "opened": 0}
    assert answered == []


def test_one_gate_that_cannot_be_opened_does_not_keep_the_others_closed(
    work: Work,
    answered: list[str],
    admin: Connection[DictRow],
    nothing_closed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """V-06: an error at one gate does not block another saga."""
    bad, good = left_closed(work, "bad"), left_closed(work, "good")
    bad.age(admin, gate.CLOSED_FOR * 3)
    good.age(admin, gate.CLOSED_FOR * 2)
    original = gate.open_gate

    def open_gate(key: FanOutKey) -> None:
        if key.saga_id == bad.saga_id:
            raise OSError("throttled")
        original(key)

    monkeypatch.setattr(gate, "open_gate", open_gate)
    assert sweep() == {"closed": 2, "opened": 1}
    assert answered == ["good"]


def test_the_sweep_stops_when_its_time_is_up(
    work: Work, answered: list[str], admin: Connection[DictRow], nothing_closed: None
) -> None:
    """V-06: the next run does the rest."""
    left_closed(work, "token").age(admin, gate.CLOSED_FOR * 2)
    assert sweep(is_time_left=False) == {"closed": 1, "opened": 0}
    assert answered == []
