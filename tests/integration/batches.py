"""Batches in any state, made with the functions of the pipeline."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import Connection
from psycopg.rows import DictRow

from batches import repository, uploads
from batches.domain import Batch, BatchStatus, NewBatch
from batches.features import Features
from batches.repository import PARSING
from skald.messaging import Envelope
from skald.postgres import Database, Transaction
from skald.storage.names import ObjectName
from skald.telemetry import trace

FEATURES = Features(format="text", total_events=3)
TRACE = "b" * 32


class Fleet:
    """The batches of one tenant. Each method is a transaction."""

    def __init__(self, database: Database, tenant: UUID) -> None:
        self.database = database
        self.tenant = tenant

    def pending(self, *names: str) -> UUID:
        """A batch with these files, all arrived."""
        batch_id = uuid4()
        with self.database.transaction(self.tenant) as tx:
            repository.create_batch(tx, batch_id, NewBatch(name="night drive"), TRACE)
            for name in names:
                file = repository.FILES.add(tx, self.name(batch_id, name), 5)
                assert file is not None
                repository.FILES.mark_arrived(tx, batch_id, {file.file_id: 5})
        return batch_id

    def scattering(self, *names: str) -> UUID:
        """A batch whose files wait for their parsers."""
        batch_id = self.pending(*names)
        self.scatter(batch_id)
        return batch_id

    def scatter(self, batch_id: UUID) -> None:
        with self.database.transaction(self.tenant) as tx:
            repository.enter(tx, batch_id, BatchStatus.UPLOADED)
            repository.enter(tx, batch_id, BatchStatus.SCATTERING)
            PARSING.open(tx, str(batch_id), repository.list_tasks(tx, batch_id))

    def scattered(self, *names: str) -> UUID:
        """A batch whose files are all parsed."""
        batch_id = self.scattering(*names)
        for name in names:
            self.finish(batch_id, name)
        return batch_id

    def diagnosing(self, *names: str) -> UUID:
        batch_id = self.scattered(*names)
        with self.database.transaction(self.tenant) as tx:
            for status in (BatchStatus.GATHERING, BatchStatus.GATHERED, BatchStatus.DIAGNOSING):
                repository.enter(tx, batch_id, status)
        return batch_id

    def completed(self, *names: str, report: dict[str, Any] | None = None) -> UUID:
        batch_id = self.diagnosing(*names)
        with self.database.transaction(self.tenant) as tx:
            repository.save_report(tx, batch_id, report or {"charts": {}})
            repository.complete(tx, batch_id, "complete")
        return batch_id

    def name(self, batch_id: UUID, name: str) -> ObjectName:
        return uploads.files.name(self.tenant, batch_id, name)

    def file_id(self, batch_id: UUID, name: str) -> UUID:
        return self.name(batch_id, name).file_id

    def message(self, batch_id: UUID, name: str) -> Envelope:
        """What brings the task of a file to its parser."""
        with trace(TRACE):
            return PARSING.message(self.tenant, str(batch_id), str(self.file_id(batch_id, name)))

    def claim(self, batch_id: UUID, name: str, worker: UUID) -> int | None:
        with self.database.transaction(self.tenant) as tx:
            return PARSING.claim(tx, *self._task(batch_id, name), worker)

    def finish(
        self,
        batch_id: UUID,
        name: str,
        worker: UUID | None = None,
        result: Features | str = FEATURES,
    ) -> bool:
        """Finish a file. It is claimed first if no worker is given."""
        if worker is None:
            worker = uuid4()
            self.claim(batch_id, name, worker)
        with self.database.transaction(self.tenant) as tx:
            return finish(tx, *self._task(batch_id, name), worker, result)

    def force(self, batch_id: UUID, reason: str) -> int:
        """Fail the files without a result; returns how many."""
        return self.do(PARSING.force, str(batch_id), reason)

    def keep_token(self, batch_id: UUID, token: str) -> None:
        """Leave the token of a pipeline that waits for its files."""
        self.do(PARSING.keep_token, str(batch_id), token)

    def token(self, batch_id: UUID) -> str | None:
        with self.database.transaction(self.tenant) as tx:
            token: str | None = tx.value(
                "select token from skald.fanouts where saga_id = %s", (str(batch_id),)
            )
        return token

    def batch(self, batch_id: UUID) -> Batch:
        with self.database.transaction(self.tenant) as tx:
            batch = repository.find_batch(tx, batch_id)
        assert batch is not None
        return batch

    def counts(self, batch_id: UUID) -> tuple[int, int, int]:
        """Return total, processed and failed files."""
        batch = self.batch(batch_id)
        return batch.total_files, batch.processed_files, batch.failed_files

    def do[T](self, change: Callable[..., T], *arguments: Any) -> T:
        """Call a repository function in its own transaction."""
        with self.database.transaction(self.tenant) as tx:
            return change(tx, *arguments)

    def _task(self, batch_id: UUID, name: str) -> tuple[str, str]:
        return str(batch_id), str(self.file_id(batch_id, name))


def finish(
    tx: Transaction, saga_id: str, task_id: str, worker: UUID, result: Features | str
) -> bool:
    """End the task of a file with its features, or the reason why it has none."""
    if isinstance(result, str):
        return PARSING.give_up(tx, saga_id, task_id, worker, result) is not None
    return PARSING.finish(tx, saga_id, task_id, worker, result) is not None


def age(admin: Connection[DictRow], batch_id: UUID, by: timedelta) -> None:
    """Set the clock of a batch back, as if nothing had changed for this time."""
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")  # keeps updated_at as set
        admin.execute(
            "update batches.batches set updated_at = clock_timestamp() - %s where batch_id = %s",
            (by, batch_id),
        )


def age_gate(admin: Connection[DictRow], saga_id: str, by: timedelta) -> None:
    """Set the clock of a fan-out back: as if its gate had been left closed for so long."""
    admin.execute(
        "update skald.fanouts set finished_at = finished_at - %s, awaited_at = awaited_at - %s"
        " where saga_id = %s",
        (by, by, saga_id),
    )
