"""Consumers of the batches context: arrived objects, start and stop of the pipeline, parse jobs."""

from uuid import UUID

from batches import artifacts, parser, repository, stages, uploads
from batches.domain import (
    SAGA,
    STEPS,
    BatchCommand,
    BatchStatus,
    ParseJob,
)
from batches.features import Features
from skald.config import required
from skald.entrypoints.consumer import StoredObject, consumer, object_created
from skald.entrypoints.task import fanout_task
from skald.fanout import GivenUp, Task
from skald.messaging import Envelope, inbox
from skald.postgres import database
from skald.saga import SagaLog, execution
from skald.storage.objects import ARTIFACTS
from skald.telemetry import logger

CONDUCTOR = "batches.conduct"
"""The name of the consumer `conduct` in the inbox."""


@object_created
def file_arrived(stored: StoredObject) -> None:
    """Register an uploaded object as an arrived file of the batch in its key (C-06)."""
    uploads.files.arrived(stored.key, stored.size)


@consumer
def conduct(envelope: Envelope) -> None:
    """Start the pipeline of an uploaded batch, or stop the pipeline of a cancelled one.

    A repeated message calls Step Functions again, but changes PostgreSQL only once (Q-05).
    """
    {"batch.uploaded": _start, "batch.cancelled": _stop}[envelope.event_type](envelope)


def _start(envelope: Envelope) -> None:
    batch_id = envelope.payload["batch_id"]
    document = {
        "saga_id": batch_id,
        "batch_id": batch_id,
        "tenant_id": str(envelope.tenant_id),
        "trace_id": envelope.trace_id,
        "timeout_seconds": envelope.payload["timeout_seconds"],
    }
    started = execution.start(required("BATCH_PIPELINE_ARN"), SAGA, batch_id, document)
    # Scatter is too late for this: an execution that died before its commit would have no saga log,
    # so it could not be compensated.
    command = BatchCommand.model_validate(document)
    with database().transaction(envelope.tenant_id) as tx:
        if inbox.accept(tx, envelope, CONDUCTOR):
            SagaLog(tx, batch_id).begin(SAGA, STEPS, command, execution=started)
            stages.reached(tx, command.batch_id, BatchStatus.UPLOADED)


def _stop(envelope: Envelope) -> None:
    batch_id = UUID(envelope.payload["batch_id"])
    if not execution.stop(required("BATCH_PIPELINE_ARN"), str(batch_id), "cancelled"):
        logger.info("cancelled before its pipeline began")
    ARTIFACTS.delete_all(artifacts.prefix(envelope.tenant_id, batch_id))
    with database().transaction(envelope.tenant_id) as tx:
        if inbox.accept(tx, envelope, CONDUCTOR):
            stages.reached(tx, batch_id, BatchStatus.FAILED)


def _clean_up(task: Task) -> None:
    """Delete the objects that a parser wrote after its batch was cancelled."""
    batch_id = UUID(task.saga_id)
    with database().transaction(task.tenant_id) as tx:
        batch = repository.find_batch(tx, batch_id)
    if batch is None or batch.status is BatchStatus.FAILED:
        ARTIFACTS.delete_all(artifacts.prefix(task.tenant_id, batch_id))


@fanout_task(repository.PARSING, uncounted=_clean_up)
def parse_file(task: Task) -> Features:
    """Parse one file (V-04)."""
    job = ParseJob(batch_id=UUID(task.saga_id), file_id=UUID(task.task_id))
    with database().transaction(task.tenant_id) as tx:
        files = repository.list_files_to_parse(tx, job.batch_id, job.file_id)
    found = parser.parse_stored(task.tenant_id, job, files)
    if isinstance(found, str):
        raise GivenUp(found)
    return found
