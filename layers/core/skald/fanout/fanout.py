"""The fan-out of a context: its declaration, and the operations of its step and its workers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import batched
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from skald.errors import NotFound, TooLarge
from skald.fanout import rows
from skald.fanout.rows import Counts, FanOutKey, TaskState
from skald.fanout.task import Task
from skald.life import Lived
from skald.messaging import outbox
from skald.messaging.envelope import Envelope, derived_id
from skald.postgres import Transaction

MAX_TASKS = 100_000
"""Tasks of one fan-out."""
CHUNK = 1_000
"""Tasks that one statement opens, and that memory holds at a time."""
MAX_ATTEMPTS = 3
"""How often a task may kill its worker before it is given up."""


@dataclass(frozen=True)
class TaskOwner[S: StrEnum]:
    """The entity of a context that shows the progress of the tasks; its key is the saga's id.

    It takes results only while it is in `state`: in another state, no task is claimed or counted.
    `show` writes the counts into the entity's row, in the transaction that changed them.
    """

    lived: Lived[S]
    state: S
    show: Callable[[Transaction, str, Counts], None]

    def takes_results(self, tx: Transaction, saga_id: str) -> bool:
        return self.lived.state(tx, saga_id) is self.state

    def holds(self, tx: Transaction, saga_id: str) -> bool:
        """Lock the entity; False when it does not take results."""
        return self.lived.lock(tx, saga_id) is self.state


@dataclass(frozen=True)
class FanOut:
    """Tasks of a saga that workers do in parallel.

    `name` distinguishes the fan-outs of a saga. `event_type` is the type of the message that brings
    a task to its worker. All methods work in the caller's transaction and never commit.
    """

    name: str
    event_type: str
    owner: TaskOwner[Any] | None = None
    max_attempts: int = MAX_ATTEMPTS

    def open(self, tx: Transaction, saga_id: str, task_ids: Iterable[str]) -> int:
        """Create the tasks and their messages, chunk by chunk; returns the number of tasks.

        Task ids are unique in their fan-out and have at most 200 characters. Raises `TooLarge`
        above `MAX_TASKS`.
        """
        key = self.key(tx, saga_id)
        rows.create(tx, key)
        total = 0
        for chunk in batched(task_ids, CHUNK, strict=False):
            total += len(chunk)
            if total > MAX_TASKS:
                raise TooLarge(f"a fan-out has at most {MAX_TASKS} tasks")
            rows.add_tasks(tx, key, chunk)
            outbox.publish_all(tx, [self.message(tx.tenant_id, saga_id, task) for task in chunk])
        rows.set_total(tx, key, total)
        if total == 0:
            self._show(tx, saga_id, Counts(0, 0, 0))
        return total

    def tasks(self, tx: Transaction, saga_id: str) -> dict[str, TaskState]:
        """Return the tasks of a saga by their ids; none before the fan-out is opened."""
        return {task.task_id: task for task in rows.tasks(tx, self.key(tx, saga_id))}

    def claim(self, tx: Transaction, saga_id: str, task_id: str, worker: UUID) -> int | None:
        """Claim a task for `worker`, and return the number of the attempt, from 1.

        A later claim of the same task fences off the earlier worker: its result no longer counts.
        Returns None if the task has ended, or if the owner no longer takes results.
        """
        if self.owner is not None and not self.owner.takes_results(tx, saga_id):
            return None
        return rows.claim(tx, self.key(tx, saga_id), task_id, worker)

    def finish(
        self, tx: Transaction, saga_id: str, task_id: str, worker: UUID, result: BaseModel
    ) -> Counts | None:
        """Record the result of a task and count it, once, if `worker` claimed the task last.

        Returns the counts, None if nothing was counted.
        """
        if not self._holds(tx, saga_id):
            return None
        document = result.model_dump(mode="json")
        counts = rows.complete(tx, self.key(tx, saga_id), task_id, worker, document)
        return self._show(tx, saga_id, counts)

    def give_up(
        self, tx: Transaction, saga_id: str, task_id: str, worker: UUID, reason: str
    ) -> Counts | None:
        """Record why a task has no result and count it, as `finish` does."""
        if not self._holds(tx, saga_id):
            return None
        counts = rows.fail(tx, self.key(tx, saga_id), task_id, worker, reason)
        return self._show(tx, saga_id, counts)

    def force(self, tx: Transaction, saga_id: str, reason: str) -> int:
        """Fail every task without a result (V-06); returns how many.

        The step after a wait that timed out calls it: no token is answered any more.
        """
        if not self._holds(tx, saga_id):
            return 0
        key = self.key(tx, saga_id)
        failed, counts = rows.fail_rest(tx, key, reason)
        rows.note_opened(tx, key)
        self._show(tx, saga_id, counts)
        return failed

    def keep_token(self, tx: Transaction, saga_id: str, token: str) -> None:
        """Store the token of the step that waits. The last task answers it with `{}`.

        If all tasks have ended already, it is answered after the commit. Raises `NotFound` for a
        saga without this fan-out.
        """
        key = self.key(tx, saga_id)
        # The last worker and this statement write the same row: the second sees the first.
        counts = rows.keep_token(tx, key, token)
        if counts is None:
            raise NotFound(f"no fan-out {self.name} of {saga_id}")
        if counts.is_whole:
            from skald.fanout.gate import open_gate  # with the saga log, for this step alone

            tx.after_commit(f"open gate {self.name}", lambda: open_gate(key))

    def message(self, tenant_id: UUID, saga_id: str, task_id: str) -> Envelope:
        """Return the message that brings a task to its worker."""
        return Envelope(
            event_id=derived_id(self.event_type, saga_id, task_id),
            event_type=self.event_type,
            tenant_id=tenant_id,
            target_id=task_id,
            target_type="task",
            correlation_id=saga_id,
            payload={"saga_id": saga_id, "task_id": task_id},
        )

    def task(self, message: Envelope) -> Task:
        """Return the task that a message brings."""
        return Task.model_validate(message.payload | {"tenant_id": message.tenant_id})

    def key(self, tx: Transaction, saga_id: str) -> FanOutKey:
        return FanOutKey(tx.tenant_id, saga_id, self.name)

    def _holds(self, tx: Transaction, saga_id: str) -> bool:
        """Lock the owner before the fan-out and its tasks; False when it takes no results."""
        return self.owner is None or self.owner.holds(tx, saga_id)

    def _show(self, tx: Transaction, saga_id: str, counts: Counts | None) -> Counts | None:
        if counts is not None and self.owner is not None:
            self.owner.show(tx, saga_id, counts)
        return counts
