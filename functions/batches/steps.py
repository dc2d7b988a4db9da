"""The steps of `batch_pipeline` in their order; each is one Task of the state machine.

The queued step `Diagnose` is in `batches.diagnosing`.
"""

from typing import Any
from uuid import UUID

from batches import artifacts, precedents, publishing, repository, stages
from batches.analysis.findings import Diagnosis
from batches.domain import (
    SAGA,
    STEPS,
    Batch,
    BatchCommand,
    BatchStatus,
    NothingParsed,
    batch_event,
)
from skald.entrypoints.step import Result, step, step_with_work, waiting_step
from skald.errors import NotFound
from skald.messaging import outbox
from skald.postgres import Transaction, database
from skald.saga import SagaLog, SagaStatus
from skald.storage.objects import ARTIFACTS
from skald.telemetry import current_trace_id


class ScatterCommand(BatchCommand):
    """The command of the first step; `execution` is the ARN of the execution."""

    execution: str | None = None


class WaitCommand(BatchCommand):
    """The command of a step that ends when its token is answered."""

    task_token: str


class FailCommand(BatchCommand):
    """The command of the compensation: `error` holds the name and the cause of the failure."""

    error: dict[str, Any]


@step
def scatter(command: ScatterCommand, tx: Transaction) -> Result:
    """Begin the saga log, and create one task and one parse job for each file (V-04)."""
    SagaLog(tx, command.saga_id).begin(SAGA, STEPS, command, execution=command.execution)
    repository.enter(tx, command.batch_id, BatchStatus.SCATTERING)
    stages.reached(tx, command.batch_id, BatchStatus.SCATTERING)
    files = repository.list_tasks(tx, command.batch_id)
    return {"files": repository.PARSING.open(tx, command.saga_id, files)}


@waiting_step
def await_parsing(command: WaitCommand, tx: Transaction) -> None:
    """Store the task token; the last parsed file answers it (V-05)."""
    repository.PARSING.keep_token(tx, command.saga_id, command.task_token)


@step
def force_gather(command: BatchCommand, tx: Transaction) -> Result:
    """Fail the files that are not parsed in time, and continue without them (V-06)."""
    timeout = _batch(tx, command.batch_id).timeout_seconds
    reason = f"no answer within {timeout} s"
    return {"given_up": repository.PARSING.force(tx, command.saga_id, reason)}


def _draw(command: BatchCommand) -> publishing.Gathered:
    with database().transaction(command.tenant_id) as tx:
        batch = _batch(tx, command.batch_id)
        if batch.failed_files == batch.total_files:
            raise NothingParsed(f"none of {batch.total_files} files could be parsed")
        repository.enter(tx, command.batch_id, BatchStatus.GATHERING)
        stages.reached(tx, command.batch_id, BatchStatus.GATHERING)
        files = repository.list_files(tx, command.batch_id)
    return publishing.gather(command.tenant_id, command.batch_id, files)


@step_with_work(_draw)
def gather(command: BatchCommand, tx: Transaction, gathered: publishing.Gathered) -> Result:
    """Compute statistics and charts from the parsed files (V-07)."""
    repository.enter(tx, command.batch_id, BatchStatus.GATHERED)
    stages.reached(tx, command.batch_id, BatchStatus.GATHERED)
    repository.save_statistics(tx, command.batch_id, gathered.model_dump(mode="json"))
    return {"charts": list(gathered.charts)}


def _write_page(command: BatchCommand) -> dict[str, Any]:
    with database().transaction(command.tenant_id) as tx:
        gathered = repository.find_statistics(tx, command.batch_id)
        diagnosis = repository.find_diagnosis(tx, command.batch_id)
        material = publishing.Material(
            batch=_batch(tx, command.batch_id),
            gathered=publishing.Gathered.model_validate(gathered),
            diagnosis=Diagnosis.model_validate(diagnosis),
            progress=repository.progress_since(tx, command.batch_id, 0),
        )
    return publishing.write_page(command.tenant_id, material)


@step_with_work(_write_page)
def publish(command: BatchCommand, tx: Transaction, report: dict[str, Any]) -> Result:
    """Publish the report, the final state and the event in one transaction. This is the pivot."""
    repository.save_report(tx, command.batch_id, report)
    repository.complete(tx, command.batch_id, report["outcome"])
    stages.reached(tx, command.batch_id, BatchStatus.COMPLETED)
    event = batch_event(
        "batch.completed",
        command.tenant_id,
        command.batch_id,
        current_trace_id(),
        outcome=report["outcome"],
        findings=len(report["diagnosis"]["findings"]),
    )
    outbox.publish(tx, event)
    SagaLog(tx, command.saga_id).move(SagaStatus.COMPLETED, SagaStatus.RUNNING)
    return {"outcome": report["outcome"]}


def _retract(command: FailCommand) -> bool:
    """Fail the batch and delete its artifacts; a published report is not undone."""
    with database().transaction(command.tenant_id) as tx:
        if _batch(tx, command.batch_id).status is BatchStatus.COMPLETED:
            return False
        error = command.error
        detail = f"{error.get('Error', 'Unknown')}: {publishing.cause(error)}"
        code = "nothing_parsed" if error.get("Error") == "NothingParsed" else "pipeline_failed"
        repository.fail(tx, command.batch_id, code, detail)
    ARTIFACTS.delete_all(artifacts.prefix(command.tenant_id, command.batch_id))
    return True


@step_with_work(_retract)
def compensate(command: FailCommand, tx: Transaction, retracted: bool) -> Result:
    """Compensate the pipeline in reverse order, and publish `batch.failed`."""
    if retracted:
        stages.reached(tx, command.batch_id, BatchStatus.FAILED)
        if diagnosis := repository.find_diagnosis(tx, command.batch_id):
            precedents.forget(tx, command.batch_id, Diagnosis.model_validate(diagnosis))
            repository.delete_diagnosis(tx, command.batch_id)
        batch = _batch(tx, command.batch_id)
        if batch.failure_code != "cancelled":
            outbox.publish(
                tx,
                batch_event(
                    "batch.failed",
                    command.tenant_id,
                    command.batch_id,
                    current_trace_id(),
                    code=batch.failure_code,
                ),
            )
        error = f"{batch.failure_code}: {batch.failure_detail}"
        log = SagaLog(tx, command.saga_id)
        # This step does not run again: a later start of the pipeline must find an ended saga.
        log.begin(SAGA, STEPS, command)
        log.move(SagaStatus.COMPENSATED, SagaStatus.RUNNING, error=error)
    return {"undone": retracted}


def _batch(tx: Transaction, batch_id: UUID) -> Batch:
    batch = repository.find_batch(tx, batch_id)
    if batch is None:
        raise NotFound(f"no batch {batch_id}")
    return batch
