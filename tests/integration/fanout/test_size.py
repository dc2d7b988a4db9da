"""V-04, V-05: a fan-out of 100,000 tasks."""

import tracemalloc
from collections.abc import Iterator

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.fanout.work import Work

from skald.fanout.fanout import CHUNK, MAX_TASKS
from skald.valkey import valkey

MEGABYTE = 1024 * 1024


@pytest.fixture
def many(work: Work, admin: Connection[DictRow]) -> Iterator[Work]:
    """A fan-out whose rows are deleted after the test."""
    yield work
    for table in ("task_executions", "fanouts", "outbox"):
        admin.execute(f"delete from skald.{table} where tenant_id = %s", (work.tenant,))  # noqa: S608


def task_ids(count: int) -> Iterator[str]:
    return (f"task-{number}" for number in range(count))


def peak_of_opening(work: Work, count: int) -> int:
    """Open this many tasks and return the peak of the memory, in bytes."""
    tracemalloc.start()
    try:
        assert work.open_all(task_ids(count)) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_tasks_are_opened_in_bounded_memory(many: Work) -> None:
    """V-04: tasks are opened in chunks, so four times as many need no more memory."""
    few = Work(many.database, many.tenant)
    few.open_all(task_ids(2 * CHUNK))  # some things are cached once
    few = Work(many.database, many.tenant)
    small = peak_of_opening(few, 2 * CHUNK)
    assert peak_of_opening(many, 8 * CHUNK) < small + MEGABYTE


def test_the_last_of_as_many_tasks_as_there_may_be_opens_the_gate(
    many: Work, answered: list[str]
) -> None:
    """V-04, V-05: all tasks are opened and counted, and the set is rebuilt after a loss."""
    assert many.open_all(task_ids(MAX_TASKS)) == MAX_TASKS
    assert many.counts() == (MAX_TASKS, 0, 0)
    with many.database.transaction(many.tenant) as tx:
        messages = "select count(*) from skald.outbox where correlation_id = %s"
        assert tx.value(messages, (many.saga_id,)) == MAX_TASKS
        # All but one have ended, as if their workers had counted them one by one.
        tx.execute(
            "update skald.task_executions"
            " set status = 'completed', result = '{}', finished_at = now()"
            " where saga_id = %s and task_id <> 'task-0'",
            (many.saga_id,),
        )
        tx.execute(
            "update skald.fanouts set finished = total - 1 where saga_id = %s", (many.saga_id,)
        )
    many.wait("token")
    many.arrive("task-1")
    assert answered == []
    valkey().flushdb()
    many.deliver("task-0")
    assert answered == ["token"]
