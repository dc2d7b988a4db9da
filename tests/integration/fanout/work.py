"""A fan-out of a saga without an entity that shows it. Each method is a transaction."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection
from psycopg.rows import DictRow
from pydantic import BaseModel
from tests.conftest import Context
from tests.integration.support import sqs_event

from skald.entrypoints.task import fanout_task
from skald.fanout import Counts, FanOut, Task, gate
from skald.postgres import Database

GRADING = FanOut("grade", event_type="answer.grade")


class Grade(BaseModel):
    """The result of a task."""

    points: int = 1


class Work:
    """The tasks of one saga, and their workers."""

    def __init__(self, database: Database, tenant: UUID, fanout: FanOut = GRADING) -> None:
        self.database = database
        self.tenant = tenant
        self.fanout = fanout
        self.saga_id = f"exam-{uuid4()}"

    def open(self, *task_ids: str) -> int:
        return self.open_all(task_ids)

    def open_all(self, task_ids: Iterable[str]) -> int:
        with self.database.transaction(self.tenant) as tx:
            return self.fanout.open(tx, self.saga_id, task_ids)

    def claim(self, task_id: str) -> UUID | None:
        """Claim a task for a new worker and return the worker, None if the claim is refused."""
        worker = uuid4()
        with self.database.transaction(self.tenant) as tx:
            attempt = self.fanout.claim(tx, self.saga_id, task_id, worker)
        return None if attempt is None else worker

    def finish(self, task_id: str, worker: UUID | None = None) -> Counts | None:
        """Finish a task up to its commit. It is claimed first if no worker is given."""
        worker = worker or self.claim(task_id)
        assert worker is not None
        with self.database.transaction(self.tenant) as tx:
            return self.fanout.finish(tx, self.saga_id, task_id, worker, Grade())

    def give_up(self, task_id: str, reason: str) -> Counts | None:
        worker = self.claim(task_id)
        assert worker is not None
        with self.database.transaction(self.tenant) as tx:
            return self.fanout.give_up(tx, self.saga_id, task_id, worker, reason)

    def force(self, reason: str = "no answer") -> int:
        with self.database.transaction(self.tenant) as tx:
            return self.fanout.force(tx, self.saga_id, reason)

    def wait(self, token: str) -> None:
        with self.database.transaction(self.tenant) as tx:
            self.fanout.keep_token(tx, self.saga_id, token)

    def arrive(self, task_id: str) -> None:
        with self.database.transaction(self.tenant) as tx:
            key = self.fanout.key(tx, self.saga_id)
        gate.arrive(key, task_id)

    def deliver(
        self, task_id: str, work: Callable[[Task], BaseModel] = lambda _: Grade(), **hooks: Any
    ) -> list[str]:
        """Deliver the message of a task to a worker. Returns the ids of the failed messages."""
        consume = fanout_task(self.fanout, **hooks)(work)
        message = self.fanout.message(self.tenant, self.saga_id, task_id)
        answer = consume(sqs_event(message.model_dump_json()), Context())
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def counts(self) -> tuple[int, int, int]:
        """Return how many tasks there are, have ended, and have failed."""
        with self.database.transaction(self.tenant) as tx:
            found = tx.one(
                Counts,
                "select total, finished, failed from skald.fanouts where saga_id = %s",
                (self.saga_id,),
            )
        assert found is not None
        return found.total, found.finished, found.failed

    def tasks(self) -> dict[str, tuple[str, str | None]]:
        """Return status and reason of every task."""
        with self.database.transaction(self.tenant) as tx:
            rows = tx.execute(
                "select task_id, status, reason from skald.task_executions where saga_id = %s",
                (self.saga_id,),
            )
            return {row["task_id"]: (row["status"], row["reason"]) for row in rows}

    def age(self, admin: Connection[DictRow], by: timedelta) -> None:
        """Set the clock of the gate back."""
        admin.execute(
            "update skald.fanouts"
            " set finished_at = finished_at - %s, awaited_at = awaited_at - %s where saga_id = %s",
            (by, by, self.saga_id),
        )
