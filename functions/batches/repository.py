"""All SQL of the batches context.

Every change applies only from the state it expects and says whether it did.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb
from pydantic import BaseModel

from batches.domain import (
    LIFE,
    MAX_FILES,
    Batch,
    BatchProgress,
    BatchStatus,
    FileState,
    NewBatch,
)
from batches.features import Features
from skald.life import IllegalTransition, Lived
from skald.listing import ListQuery, Page, Resource
from skald.postgres import Transaction
from skald.storage.file_table import FileTable

_BATCH = """
    select batch_id, name, status, outcome, failure_code, failure_detail, total_files,
           processed_files, failed_files, timeout_seconds, trace_id, created_at, updated_at,
           completed_at
    from batches.batches
"""
_BATCHES = Lived(LIFE, table=("batches", "batches"), key="batch_id")
_LIST = Resource(
    Batch,
    ("batches", "batches"),
    key="batch_id",
    sort="-created_at",
    sortable=["name", "status", "total_files", "created_at", "updated_at", "completed_at"],
    filterable=["batch_id", "name", "status", "outcome", "trace_id", "created_at", "completed_at"],
)
_FILE_STATE = """
    select file.file_id, file.name, file.key, file.size, file.upload_id, file.arrived_at,
           coalesce(task.status, 'registered') as status, task.reason, task.features
    from batches.files as file
    left join batches.task_executions as task using (tenant_id, batch_id, file_id)
    where file.tenant_id = %s and file.batch_id = %s
"""


# Batches ------------------------------------------------------------------------------------------


def create_batch(tx: Transaction, batch_id: UUID, new: NewBatch, trace_id: str) -> None:
    tx.execute(
        """
        insert into batches.batches (tenant_id, batch_id, name, timeout_seconds, trace_id)
        values (%s, %s, %s, %s, %s)
        """,
        (tx.tenant_id, batch_id, new.name, new.timeout_seconds, trace_id),
    )


def find_batch(tx: Transaction, batch_id: UUID) -> Batch | None:
    return tx.one(
        Batch, _BATCH + " where tenant_id = %s and batch_id = %s", (tx.tenant_id, batch_id)
    )


def lock_batch(tx: Transaction, batch_id: UUID) -> Batch | None:
    """Return the batch and keep other writers out until the transaction ends."""
    return tx.one(
        Batch,
        _BATCH + " where tenant_id = %s and batch_id = %s for no key update",
        (tx.tenant_id, batch_id),
    )


def list_batches(tx: Transaction, query: ListQuery) -> Page[Batch | dict[str, Any]]:
    """Return one page of the batches that the query asks for."""
    return _LIST.page(tx, query)


def advance(tx: Transaction, batch_id: UUID, target: BatchStatus) -> bool:
    """Move a batch to its next state; False when it is not in the state before it (V-03)."""
    return _BATCHES.advance(tx, batch_id, target)


def enter(tx: Transaction, batch_id: UUID, target: BatchStatus) -> None:
    """Move a batch to its next state, or find it there; raises `IllegalTransition` (V-03)."""
    _BATCHES.enter(tx, batch_id, target)


def hold(tx: Transaction, batch_id: UUID, status: BatchStatus) -> None:
    """Keep a batch in a state until the transaction ends; raises `IllegalTransition`."""
    _BATCHES.hold(tx, batch_id, status)


def show_life(tx: Transaction, batch_id: UUID) -> bool:
    """Note that a worker diagnoses the batch; False when it is in another state."""
    return _BATCHES.keep(tx, batch_id, BatchStatus.DIAGNOSING)


def complete(tx: Transaction, batch_id: UUID, outcome: str) -> None:
    """End a batch well; raises `IllegalTransition` when it has ended or cannot end yet."""
    if not _BATCHES.advance(tx, batch_id, BatchStatus.COMPLETED, outcome=outcome):
        raise IllegalTransition(f"batch {batch_id} is not being diagnosed, it cannot complete")


def fail(tx: Transaction, batch_id: UUID, code: str, detail: str) -> bool:
    """Fail a batch that has not ended; a final state never changes."""
    return _BATCHES.fail(tx, batch_id, code, detail)


def progress_since(tx: Transaction, batch_id: UUID, version: int) -> list[BatchProgress]:
    return tx.all(
        BatchProgress,
        """
        select version, status, total_files, processed_files, failed_files, at
        from batches.progress
        where tenant_id = %s and batch_id = %s and version > %s
        order by version
        limit 1000
        """,
        (tx.tenant_id, batch_id, version),
    )


# Files --------------------------------------------------------------------------------------------


FILES = FileTable(
    ("batches", "files"),
    ("batches", "batches"),
    owner="batch",
    open_in=BatchStatus.PENDING,
    most=MAX_FILES,
)


def list_files(tx: Transaction, batch_id: UUID) -> list[FileState]:
    """Return the files of a batch by name, with what became of each."""
    return tx.all(FileState, _FILE_STATE + " order by file.name", (tx.tenant_id, batch_id))


def list_files_to_parse(tx: Transaction, batch_id: UUID, file_id: UUID) -> list[FileState]:
    """Return one file of a batch, and the DBC files its signals may be described in, by name."""
    return tx.all(
        FileState,
        _FILE_STATE + " and (file.file_id = %s or file.name ilike '%%.dbc') order by file.name",
        (tx.tenant_id, batch_id, file_id),
    )


# Tasks --------------------------------------------------------------------------------------------


def create_tasks(tx: Transaction, batch_id: UUID) -> list[UUID]:
    """Create the parse task of every file and return the file ids."""
    rows = tx.execute(
        """
        insert into batches.task_executions (tenant_id, batch_id, file_id)
        select tenant_id, batch_id, file_id from batches.files
        where tenant_id = %s and batch_id = %s
        returning file_id
        """,
        (tx.tenant_id, batch_id),
    )
    return [row["file_id"] for row in rows]


def claim_task(tx: Transaction, batch_id: UUID, file_id: UUID, worker: UUID) -> int | None:
    """Make `worker` the one whose result counts; returns the attempt, None if the task is done.

    A redelivered job takes the task over: whoever held it before is fenced off by `worker`.
    """
    attempts: int | None = tx.value(
        """
        update batches.task_executions as task
        set status = 'processing', worker = %s, attempts = attempts + 1
        from batches.batches as batch
        where task.tenant_id = %s and task.batch_id = %s and task.file_id = %s
          and task.status in ('pending', 'processing')
          and batch.tenant_id = task.tenant_id and batch.batch_id = task.batch_id
          and batch.status = 'scattering'
        returning attempts
        """,
        (worker, tx.tenant_id, batch_id, file_id),
    )
    return attempts


def finish_task(
    tx: Transaction, batch_id: UUID, file_id: UUID, worker: UUID, result: Features | str
) -> bool:
    """Record a file's features, or the reason it failed, and count it; once, by its last worker.

    The batch is `scattered` when this was its last file.
    """
    if not _lock_scattering(tx, batch_id):
        return False
    features = Jsonb(result.model_dump(mode="json")) if isinstance(result, Features) else None
    reason = result if isinstance(result, str) else None
    finished = tx.execute(
        """
        update batches.task_executions
        set status = %s, features = %s, reason = %s, finished_at = clock_timestamp()
        where tenant_id = %s and batch_id = %s and file_id = %s
          and status = 'processing' and worker = %s
        """,
        (
            "failed" if reason else "completed",
            features,
            reason,
            tx.tenant_id,
            batch_id,
            file_id,
            worker,
        ),
    ).rowcount
    if finished:
        _count(tx, batch_id, processed=1, failed=1 if reason else 0)
    return finished == 1


def fail_unfinished(tx: Transaction, batch_id: UUID, reason: str) -> int:
    """Fail every task that has no result (V-06); returns how many."""
    if not _lock_scattering(tx, batch_id):
        return 0
    failed = tx.execute(
        """
        update batches.task_executions
        set status = 'failed', reason = %s, finished_at = clock_timestamp()
        where tenant_id = %s and batch_id = %s and status in ('pending', 'processing')
        """,
        (reason, tx.tenant_id, batch_id),
    ).rowcount
    if failed:
        _count(tx, batch_id, processed=failed, failed=failed)
    return failed


def _lock_scattering(tx: Transaction, batch_id: UUID) -> bool:
    """Take the batch before its tasks, always in this order, and say whether it still scatters."""
    batch = lock_batch(tx, batch_id)
    return batch is not None and batch.status is BatchStatus.SCATTERING


def _count(tx: Transaction, batch_id: UUID, processed: int, failed: int) -> None:
    tx.execute(
        """
        update batches.batches
        set processed_files = processed_files + %(processed)s,
            failed_files = failed_files + %(failed)s,
            status = case when status = 'scattering'
                           and processed_files + %(processed)s = total_files
                     then 'scattered' else status end
        where tenant_id = %(tenant)s and batch_id = %(batch)s
        """,
        {"processed": processed, "failed": failed, "tenant": tx.tenant_id, "batch": batch_id},
    )


def finished_files(tx: Transaction, batch_id: UUID) -> list[str]:
    """Return the ids of the files that are done: the truth behind the barrier (V-05)."""
    rows = tx.execute(
        "select file_id from batches.task_executions"
        " where tenant_id = %s and batch_id = %s and status in ('completed', 'failed')",
        (tx.tenant_id, batch_id),
    )
    return [str(row["file_id"]) for row in rows]


def has_ended(tx: Transaction, batch_id: UUID, file_id: UUID) -> bool:
    """Say whether a file is done, parsed or failed."""
    status = tx.value(
        "select status from batches.task_executions"
        " where tenant_id = %s and batch_id = %s and file_id = %s",
        (tx.tenant_id, batch_id, file_id),
    )
    return status in ("completed", "failed")


def keep_token(tx: Transaction, batch_id: UUID, token: str) -> None:
    """Remember the token that the last file answers; a retried wait brings a new one."""
    tx.execute(
        "update batches.batches set parsing_token = %s where tenant_id = %s and batch_id = %s",
        (token, tx.tenant_id, batch_id),
    )


def parsing_token(tx: Transaction, batch_id: UUID) -> str | None:
    token: str | None = tx.value(
        "select parsing_token from batches.batches where tenant_id = %s and batch_id = %s",
        (tx.tenant_id, batch_id),
    )
    return token


# Findings -----------------------------------------------------------------------------------------


def save_statistics(tx: Transaction, batch_id: UUID, statistics: dict[str, Any]) -> None:
    tx.execute(
        "update batches.batches set statistics = %s where tenant_id = %s and batch_id = %s",
        (Jsonb(statistics), tx.tenant_id, batch_id),
    )


def find_statistics(tx: Transaction, batch_id: UUID) -> dict[str, Any] | None:
    statistics: dict[str, Any] | None = tx.value(
        "select statistics from batches.batches where tenant_id = %s and batch_id = %s",
        (tx.tenant_id, batch_id),
    )
    return statistics


def save_diagnosis(tx: Transaction, batch_id: UUID, diagnosis: dict[str, Any]) -> None:
    tx.execute(
        "insert into batches.diagnoses (tenant_id, batch_id, document) values (%s, %s, %s)",
        (tx.tenant_id, batch_id, Json(diagnosis)),
    )


def find_diagnosis(tx: Transaction, batch_id: UUID) -> dict[str, Any] | None:
    diagnosis: dict[str, Any] | None = tx.value(
        "select document from batches.diagnoses where tenant_id = %s and batch_id = %s",
        (tx.tenant_id, batch_id),
    )
    return diagnosis


def delete_diagnosis(tx: Transaction, batch_id: UUID) -> None:
    tx.execute(
        "delete from batches.diagnoses where tenant_id = %s and batch_id = %s",
        (tx.tenant_id, batch_id),
    )


def save_report(tx: Transaction, batch_id: UUID, report: dict[str, Any]) -> None:
    tx.execute(
        "insert into batches.reports (tenant_id, batch_id, document) values (%s, %s, %s)",
        (tx.tenant_id, batch_id, Json(report)),
    )


def find_report(tx: Transaction, batch_id: UUID) -> dict[str, Any] | None:
    report: dict[str, Any] | None = tx.value(
        "select document from batches.reports where tenant_id = %s and batch_id = %s",
        (tx.tenant_id, batch_id),
    )
    return report


# Across tenants -----------------------------------------------------------------------------------


class Stuck(BaseModel):
    """A batch that has not moved for longer than its state should take."""

    tenant_id: UUID
    batch_id: UUID
    status: BatchStatus


def find_stuck(lookout: Transaction, parsing: timedelta, diagnosing: timedelta) -> list[Stuck]:
    """Find stuck batches of all tenants: all files done but not gathered, or diagnosing (V-06).

    `lookout` is a transaction of the relay's role.
    """
    return lookout.all(
        Stuck,
        """
        select tenant_id, batch_id, status from batches.batches
        where (status in ('scattering', 'scattered') and processed_files = total_files
               and updated_at < clock_timestamp() - %s)
           or (status = 'diagnosing' and updated_at < clock_timestamp() - %s)
        order by updated_at
        limit 100
        """,
        (parsing, diagnosing),
    )
