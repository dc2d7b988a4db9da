"""All SQL of fan-outs; every function works in the caller's transaction and never commits.

Locks are taken in one order: the row of the fan-out's owner, if it has one, the row of the fan-out,
rows of its tasks. All workers of a fan-out write its counts, so they wait for each other: a worker
takes these locks when its work is done, and holds them for a few statements and the commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, LiteralString, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import BaseModel

from skald.postgres import Transaction


class FanOutKey(NamedTuple):
    """The key of a fan-out: its tenant, its saga and its name."""

    tenant_id: UUID
    saga_id: str
    name: str


@dataclass(frozen=True)
class Counts:
    """How many tasks there are, how many of them ended, and how many of those failed."""

    total: int
    finished: int
    failed: int

    @property
    def is_whole(self) -> bool:
        return self.finished == self.total


class TaskState(BaseModel, defer_build=True):
    """A task and what became of it: a `result` once it is completed, a `reason` once it failed."""

    task_id: str
    status: Literal["pending", "processing", "completed", "failed"]
    result: dict[str, Any] | None
    reason: str | None


# Opening ------------------------------------------------------------------------------------------


def create(tx: Transaction, key: FanOutKey) -> None:
    """Create a fan-out without tasks."""
    tx.execute("insert into skald.fanouts (tenant_id, saga_id, name) values (%s, %s, %s)", key)


def add_tasks(tx: Transaction, key: FanOutKey, task_ids: Sequence[str]) -> None:
    tx.execute(
        "insert into skald.task_executions (tenant_id, saga_id, name, task_id)"
        " select %s, %s, %s, unnest(%s::text[])",
        (*key, list(task_ids)),
    )


def set_total(tx: Transaction, key: FanOutKey, total: int) -> None:
    """Store the number of tasks; a fan-out without tasks is finished at once."""
    tx.execute(
        "update skald.fanouts"
        " set total = %s, finished_at = case when %s then clock_timestamp() end"
        " where tenant_id = %s and saga_id = %s and name = %s",
        (total, total == 0, *key),
    )


# Tasks --------------------------------------------------------------------------------------------


def tasks(tx: Transaction, key: FanOutKey) -> list[TaskState]:
    """Return all tasks of a fan-out, in no particular order."""
    return tx.all(
        TaskState,
        "select task_id, status, result, reason from skald.task_executions"
        " where tenant_id = %s and saga_id = %s and name = %s",
        key,
    )


def claim(tx: Transaction, key: FanOutKey, task_id: str, worker: UUID) -> int | None:
    """Claim a task for `worker`; returns the number of its attempt, None if the task has ended.

    A later claim of the same task fences off the earlier worker: its result no longer counts.
    """
    attempt: int | None = tx.value(
        """
        update skald.task_executions
        set status = 'processing', worker = %s, attempts = attempts + 1
        where tenant_id = %s and saga_id = %s and name = %s and task_id = %s
          and status in ('pending', 'processing')
        returning attempts
        """,
        (worker, *key, task_id),
    )
    return attempt


# The lock of the fan-out comes before those of its tasks.
_END_TASKS: LiteralString = """
    with fanout as materialized (
        select tenant_id, saga_id, name from skald.fanouts
        where tenant_id = %(tenant)s and saga_id = %(saga)s and name = %(name)s
        for no key update
    )
    update skald.task_executions as task
    set status = %(status)s, result = %(result)s, reason = %(reason)s,
        finished_at = clock_timestamp()
    from fanout
    where task.tenant_id = fanout.tenant_id and task.saga_id = fanout.saga_id
      and task.name = fanout.name
"""
_OF_WORKER: LiteralString = """
      and task.task_id = %(task)s and task.status = 'processing' and task.worker = %(worker)s
"""
_OF_ALL: LiteralString = """
      and task.status in ('pending', 'processing')
"""


def complete(
    tx: Transaction, key: FanOutKey, task_id: str, worker: UUID, result: object
) -> Counts | None:
    """End a task with a result and count it; None when `worker` does not hold it."""
    about = {"task": task_id, "worker": worker}
    if not tx.changed(
        _END_TASKS + _OF_WORKER, _end(key, "completed", result=Jsonb(result)) | about
    ):
        return None
    return _count(tx, key, finished=1, failed=0)


def fail(tx: Transaction, key: FanOutKey, task_id: str, worker: UUID, reason: str) -> Counts | None:
    """End a task without a result and count it; None when `worker` does not hold it."""
    end = _end(key, "failed", reason=reason) | {"task": task_id, "worker": worker}
    ended = tx.changed(_END_TASKS + _OF_WORKER, end)
    return _count(tx, key, finished=1, failed=1) if ended else None


def fail_rest(tx: Transaction, key: FanOutKey, reason: str) -> tuple[int, Counts | None]:
    """Fail every task that has not ended; returns how many, and the counts if there were any."""
    failed = tx.execute(_END_TASKS + _OF_ALL, _end(key, "failed", reason=reason)).rowcount
    return failed, _count(tx, key, finished=failed, failed=failed) if failed else None


def _end(
    key: FanOutKey, status: str, *, result: Jsonb | None = None, reason: str | None = None
) -> dict[str, object]:
    named = {"tenant": key.tenant_id, "saga": key.saga_id, "name": key.name}
    return named | {"status": status, "result": result, "reason": reason}


def _count(tx: Transaction, key: FanOutKey, *, finished: int, failed: int) -> Counts | None:
    return tx.one(
        Counts,
        """
        update skald.fanouts
        set finished = finished + %(finished)s, failed = failed + %(failed)s,
            finished_at = case when finished + %(finished)s = total then clock_timestamp() end
        where tenant_id = %(tenant)s and saga_id = %(saga)s and name = %(name)s
        returning total, finished, failed
        """,
        {
            "finished": finished,
            "failed": failed,
            "tenant": key.tenant_id,
            "saga": key.saga_id,
            "name": key.name,
        },
    )


# The gate -----------------------------------------------------------------------------------------


def keep_token(tx: Transaction, key: FanOutKey, token: str) -> Counts | None:
    """Store the token to be answered; the token of a retried wait closes the gate again.

    Returns the counts, None when there is no such fan-out.
    """
    return tx.one(
        Counts,
        """
        update skald.fanouts set token = %s, awaited_at = clock_timestamp(), opened_at = null
        where tenant_id = %s and saga_id = %s and name = %s
        returning total, finished, failed
        """,
        (token, *key),
    )


def token_of_closed(tx: Transaction, key: FanOutKey) -> str | None:
    """Return the token to be answered now: all tasks have ended, and no answer was sent yet."""
    token: str | None = tx.value(
        "select token from skald.fanouts"
        " where tenant_id = %s and saga_id = %s and name = %s"
        "   and finished_at is not null and opened_at is null",
        key,
    )
    return token


def note_opened(tx: Transaction, key: FanOutKey, token: str | None = None) -> None:
    """Record that no step waits with this token; without a token, that no step waits at all."""
    tx.execute(
        "update skald.fanouts set opened_at = clock_timestamp()"
        " where tenant_id = %s and saga_id = %s and name = %s and opened_at is null"
        "   and coalesce(token = %s, true)",
        (*key, token),
    )


def counts_behind(tx: Transaction, key: FanOutKey, task_id: str) -> Counts | None:
    """Return the counts if this task has ended and the gate is closed, else None."""
    return tx.one(
        Counts,
        """
        select total, finished, failed from skald.fanouts as fanout
        where tenant_id = %s and saga_id = %s and name = %s and opened_at is null
          and exists (select from skald.task_executions as task
                      where task.tenant_id = fanout.tenant_id and task.saga_id = fanout.saga_id
                        and task.name = fanout.name and task.task_id = %s
                        and task.finished_at is not null)
        """,
        (*key, task_id),
    )


def finished_tasks(tx: Transaction, key: FanOutKey) -> list[str]:
    """Return the ids of the tasks that have ended. The barrier is rebuilt from them."""
    rows = tx.execute(
        "select task_id from skald.task_executions"
        " where tenant_id = %s and saga_id = %s and name = %s and finished_at is not null",
        key,
    )
    return [row["task_id"] for row in rows]


def finished_count(tx: Transaction, key: FanOutKey) -> int:
    """Return how many tasks have ended."""
    count: int | None = tx.value(
        "select finished from skald.fanouts where tenant_id = %s and saga_id = %s and name = %s",
        key,
    )
    return count or 0


def find_closed(lookout: Transaction, closed_for: timedelta, limit: int = 100) -> list[FanOutKey]:
    """Find fan-outs of all tenants whose tasks have all ended and whose token was not answered.

    `lookout` is a transaction of the relay's role.
    """
    return lookout.all(
        FanOutKey,
        """
        select tenant_id, saga_id, name from skald.fanouts
        where finished_at is not null and awaited_at is not null and opened_at is null
          and greatest(finished_at, awaited_at) < clock_timestamp() - %s
        order by finished_at
        limit %s
        """,
        (closed_for, limit),
    )
