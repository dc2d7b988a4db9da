"""All SQL of the batches context.

A change applies only in the state that it expects, and returns whether it was applied.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb
from pydantic import BaseModel

from batches.domain import (
    LIFE,
    MAX_ATTEMPTS,
    MAX_FILES,
    Batch,
    BatchProgress,
    BatchStatus,
    FileState,
    NewBatch,
)
from batches.features import Features
from skald.fanout import Counts, FanOut, TaskOwner, TaskState
from skald.life import IllegalTransition, Lived
from skald.listing import ListQuery, Page, Resource
from skald.postgres import Transaction
from skald.storage.file_table import FileTable
from skald.storage.files import File

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
    """Record that a worker still diagnoses the batch; False when it is in another state."""
    return _BATCHES.keep(tx, batch_id, BatchStatus.DIAGNOSING)


def complete(tx: Transaction, batch_id: UUID, outcome: str) -> None:
    """Complete a batch; raises `IllegalTransition` when it has ended or cannot end yet."""
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
    """Return the files of a batch with their parse results, ordered by name."""
    tasks = PARSING.tasks(tx, str(batch_id))
    return [_file_state(file, tasks.get(str(file.file_id))) for file in FILES.all(tx, batch_id)]


def list_files_to_parse(tx: Transaction, batch_id: UUID, file_id: UUID) -> list[File]:
    """Return one file of a batch and all its DBC files, which may describe signals, by name."""
    return tx.all(
        File,
        """
        select file_id, name, key, size, upload_id, arrived_at from batches.files
        where tenant_id = %s and batch_id = %s and (file_id = %s or name ilike '%%.dbc')
        order by name
        """,
        (tx.tenant_id, batch_id, file_id),
    )


# Tasks --------------------------------------------------------------------------------------------


def list_tasks(tx: Transaction, batch_id: UUID) -> list[str]:
    """Return the ids of the parse tasks of a batch, which are the ids of its files."""
    rows = tx.execute(
        "select file_id from batches.files where tenant_id = %s and batch_id = %s",
        (tx.tenant_id, batch_id),
    )
    return [str(row["file_id"]) for row in rows]


def _show_parsed(tx: Transaction, saga_id: str, counts: Counts) -> None:
    """Write the counts of parsed and failed files; after the last file, the batch is scattered.

    One statement changes counts and state, so the last file is one change and not two (V-11).
    """
    done = {"processed_files": counts.finished, "failed_files": counts.failed}
    if counts.is_whole:
        _BATCHES.advance(tx, saga_id, BatchStatus.SCATTERED, **done)
    else:
        _BATCHES.keep(tx, saga_id, BatchStatus.SCATTERING, **done)


PARSING = FanOut(
    "parse",
    event_type="file.parse",
    owner=TaskOwner(_BATCHES, BatchStatus.SCATTERING, _show_parsed),
    max_attempts=MAX_ATTEMPTS,
)
"""The parallel parsing of a batch's files: one task per file, with the id of the file (V-04)."""


def _file_state(file: File, task: TaskState | None) -> FileState:
    if task is None:
        return FileState(**dict(file), status="registered")
    features = None if task.result is None else Features.model_validate(task.result)
    return FileState(**dict(file), status=task.status, reason=task.reason, features=features)


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


class Stuck(BaseModel, defer_build=True):
    """A batch that has been in its state for too long."""

    tenant_id: UUID
    batch_id: UUID


def find_stuck(lookout: Transaction, diagnosing: timedelta) -> list[Stuck]:
    """Find batches of all tenants whose diagnosis has sent no heartbeat for so long (V-06).

    `lookout` is a transaction of the relay's role.
    """
    return lookout.all(
        Stuck,
        """
        select tenant_id, batch_id from batches.batches
        where status = %s and updated_at < clock_timestamp() - %s
        order by updated_at
        limit 100
        """,
        (BatchStatus.DIAGNOSING, diagnosing),
    )
