"""V-04 to V-06, V-14: the tasks of a fan-out, also when workers race."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from uuid import UUID, uuid4

import pytest
from psycopg import Connection, errors
from psycopg.rows import DictRow
from tests.integration.fanout.work import GRADING, Grade, Work
from tests.integration.support import together, wait_until_blocked

from skald.errors import TooLarge
from skald.fanout import Counts, GivenUp, Task, fanout
from skald.messaging import Envelope
from skald.postgres import Database

# Opening ------------------------------------------------------------------------------------------


def messages(work: Work) -> list[Envelope]:
    with work.database.transaction(work.tenant) as tx:
        rows = tx.execute(
            "select envelope from skald.outbox where correlation_id = %s order by position",
            (work.saga_id,),
        )
        return [Envelope.model_validate(row["envelope"]) for row in rows]


def test_each_task_has_a_message_that_names_it(work: Work) -> None:
    """V-04: each task has one message; it has the ids with which a worker finds the rest."""
    assert work.open("a", "b") == 2
    assert work.counts() == (2, 0, 0)
    assert [GRADING.task(message) for message in messages(work)] == [
        Task(tenant_id=work.tenant, saga_id=work.saga_id, task_id=task_id) for task_id in "ab"
    ]
    assert len({message.event_id for message in messages(work)}) == 2
    assert {message.event_type for message in messages(work)} == {"answer.grade"}


def test_what_is_opened_vanishes_with_its_transaction(work: Work) -> None:
    """C-09: tasks and messages commit with the step that opens them, or not at all."""

    def open_and_fail() -> None:
        with work.database.transaction(work.tenant) as tx:
            GRADING.open(tx, work.saga_id, ["a"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        open_and_fail()
    assert (work.tasks(), messages(work)) == ({}, [])


def test_there_is_a_limit_to_tasks(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """V-04: too many tasks for the barrier are refused, and nothing is stored."""
    monkeypatch.setattr(fanout, "MAX_TASKS", 2)
    with pytest.raises(TooLarge, match="at most 2"):
        work.open("a", "b", "c")
    assert work.tasks() == {}


# Workers ------------------------------------------------------------------------------------------


def test_a_redelivered_task_fences_its_first_worker_off(work: Work) -> None:
    """V-05: the result of the worker that claimed the task last counts, once."""
    work.open("a")
    first, second = work.claim("a"), work.claim("a")
    assert work.finish("a", first) is None
    assert work.counts() == (1, 0, 0)
    assert work.finish("a", second) == Counts(1, 1, 0)
    assert work.finish("a", second) is None
    assert work.counts() == (1, 1, 0)


def test_a_task_that_has_ended_is_not_claimed(work: Work) -> None:
    """V-05: a finished or given-up task that comes again is refused."""
    work.open("a", "b", "c")
    work.finish("a")
    assert work.give_up("b", "unreadable") == Counts(3, 2, 1)
    assert [work.claim(task_id) is None for task_id in "abc"] == [True, True, False]
    assert work.tasks()["b"] == ("failed", "unreadable")


def test_racing_workers_are_counted_once_each(work: Work) -> None:
    """V-05: workers finish at the same moment: each task counts, and one sees them all."""
    names = [f"task-{number}" for number in range(8)]
    work.open(*names)
    counts = together(*[partial(work.finish, name) for name in names])
    assert sorted(count.finished for count in counts if count) == list(range(1, 9))
    assert work.counts() == (8, 8, 0)


def test_two_workers_on_one_task_count_it_once(work: Work) -> None:
    """V-05: in any order of the second claim and the first end."""
    for number in range(10):
        run = Work(work.database, work.tenant)
        run.open("a")
        ends = together(*[lambda run=run: run.deliver("a")] * 2)
        assert ends == [[], []], number
        if run.counts() == (1, 0, 0):  # the claim of one came during the work of the other
            run.deliver("a")
        assert run.counts() == (1, 1, 0)


@pytest.mark.parametrize("finisher_first", [True, False])
def test_finishing_and_forcing_count_a_task_once(
    work: Work, admin: Connection[DictRow], finisher_first: bool
) -> None:
    """V-06: a worker that finishes during a forced end is either in time or too late."""
    work.open("a", "b")
    worker = work.claim("a")
    assert worker is not None
    later: Future[int] | Future[Counts | None]
    with ThreadPoolExecutor(1) as pool:
        with work.database.transaction(work.tenant) as tx:
            if finisher_first:
                GRADING.finish(tx, work.saga_id, "a", worker, Grade())
                later = pool.submit(work.force)
            else:
                assert GRADING.force(tx, work.saga_id, "no answer") == 2
                later = pool.submit(work.finish, "a", worker)
            wait_until_blocked(admin)
        assert later.result() == (1 if finisher_first else None)
    assert work.counts() == (2, 2, 1 if finisher_first else 2)


def test_forcing_among_racing_workers_counts_everything_once(work: Work) -> None:
    """V-06: locks are taken in one order, so nothing is lost and there is no deadlock."""
    for _ in range(5):
        run = Work(work.database, work.tenant)
        names = [f"task-{number}" for number in range(6)]
        run.open(*names)
        workers = {name: run.claim(name) for name in names}

        def finish(name: str, run: Work = run, workers: dict[str, UUID | None] = workers) -> int:
            return 0 if run.finish(name, workers[name]) else 1

        *late, forced = together(*[partial(finish, name) for name in names], run.force)
        assert sum(late) == forced
        assert run.counts() == (6, 6, forced)


def test_forcing_twice_gives_up_once(work: Work) -> None:
    """V-06: a task with a result keeps it."""
    work.open("a", "b")
    work.finish("a")
    assert (work.force("too late"), work.force("again")) == (1, 0)
    assert work.tasks() == {"a": ("completed", None), "b": ("failed", "too late")}


# The consumer -------------------------------------------------------------------------------------


def test_a_task_without_a_result_is_done_too(work: Work) -> None:
    """V-06: its reason is stored and the message is done."""
    work.open("a")

    def refuse(_: Task) -> Grade:
        raise GivenUp("the page is empty")

    assert work.deliver("a", refuse) == []
    assert work.tasks() == {"a": ("failed", "the page is empty")}


def test_an_error_gives_the_message_back(work: Work) -> None:
    """V-04: an error that the task does not cause is retried, and the task does not fail."""
    work.open("a")

    def lose(_: Task) -> Grade:
        raise OSError("connection reset")

    assert work.deliver("a", lose) == ["m0"]
    assert work.counts() == (1, 0, 0)
    assert work.deliver("a") == []
    assert work.counts() == (1, 1, 0)


def test_a_task_that_kills_its_workers_is_given_up(work: Work) -> None:
    """V-06: after three attempts it fails, so it kills no fourth worker."""
    work.open("a")
    for _ in range(3):
        work.claim("a")  # and died

    def unreachable(_: Task) -> Grade:
        raise AssertionError

    assert work.deliver("a", unreachable) == []
    assert "3 attempts" in (work.tasks()["a"][1] or "")


def test_work_that_does_not_count_can_be_cleaned_up(work: Work) -> None:
    """V-05: `uncounted` gets the task of an overtaken worker, and a task that had ended before."""
    work.open("a")
    told: list[str] = []

    def note(task: Task) -> None:
        told.append(task.task_id)

    def slow(_: Task) -> Grade:
        work.finish("a")  # SQS has delivered the task again
        return Grade()

    work.deliver("a", slow, uncounted=note)
    assert told == ["a"]
    work.deliver("a", uncounted=note)
    assert told == ["a", "a"]
    assert work.counts() == (1, 1, 0)


def test_an_unknown_task_is_dropped(work: Work) -> None:
    """Q-05: a message without a task does nothing and is not delivered again."""
    assert work.deliver("unknown") == []


# Tenants and constraints --------------------------------------------------------------------------


def test_a_foreign_tenant_reaches_no_task(work: Work, other_tenant: UUID) -> None:
    """Q-10: the same ids of another tenant find nothing."""
    work.open("a")
    worker = work.claim("a")
    assert worker is not None
    thief = Work(work.database, other_tenant)
    thief.saga_id = work.saga_id
    assert thief.claim("a") is None
    assert thief.finish("a", worker) is None
    assert thief.force() == 0
    assert thief.deliver("a") == []
    assert work.counts() == (1, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        "finished = total + 1",
        "failed = finished + 1",
        "total = -1",
        "finished_at = now()",
        "awaited_at = now()",
    ],
)
def test_impossible_counts_cannot_be_stored(
    work: Work, admin: Connection[DictRow], change: str
) -> None:
    """V-14: failed ≤ finished ≤ total, finished when all have ended, awaited with a token."""
    work.open("a")
    with pytest.raises(errors.CheckViolation):
        admin.execute(
            f"update skald.fanouts set {change} where saga_id = %s",  # noqa: S608
            (work.saga_id,),
        )


@pytest.mark.parametrize("change", ["status = 'failed'", "status = 'completed'", "reason = 'x'"])
def test_impossible_tasks_cannot_be_stored(
    work: Work, admin: Connection[DictRow], change: str
) -> None:
    """V-14: a result exactly when completed, a reason exactly when failed."""
    work.open("a")
    with pytest.raises(errors.CheckViolation):
        admin.execute(
            f"update skald.task_executions set {change} where saga_id = %s",  # noqa: S608
            (work.saga_id,),
        )


def test_a_task_is_unique_in_its_fan_out(work: Work, database: Database) -> None:
    """V-14: the same id twice is an error of the caller, not two tasks."""
    with pytest.raises(errors.UniqueViolation):
        work.open("a", "a")
    work.open("a")
    worker = uuid4()
    with database.transaction(work.tenant) as tx:
        assert GRADING.claim(tx, work.saga_id, "a", worker) == 1
