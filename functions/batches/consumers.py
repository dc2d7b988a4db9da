"""Consumers of the batches context: arriving objects, the life of the pipeline, parse jobs."""

from uuid import UUID, uuid4

from batches import artifacts, barrier, parser, repository, uploads
from batches.domain import (
    MAX_ATTEMPTS,
    SAGA,
    STEPS,
    BatchCommand,
    BatchStatus,
    ParseJob,
)
from batches.features import Features
from skald.config import required
from skald.entrypoints.consumer import StoredObject, consumer, object_created
from skald.messaging import Envelope
from skald.postgres import database
from skald.saga import SagaLog, execution
from skald.storage.objects import ARTIFACTS
from skald.telemetry import Kind, logger, metrics, span, workflow_span_id


@object_created
def file_arrived(stored: StoredObject) -> None:
    """Register an uploaded object with its batch, by its key alone (C-06)."""
    uploads.files.arrived(stored.key, stored.size)


@consumer
def conduct(envelope: Envelope) -> None:
    """Start the pipeline of an uploaded batch, stop that of a cancelled one."""
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
    with span(Kind.WORKFLOW, SAGA, span_id=workflow_span_id(batch_id)):
        started = execution.start(required("BATCH_PIPELINE_ARN"), batch_id, document)
    # Not left to Scatter: nobody could compensate an execution that dies before that commits.
    command = BatchCommand.model_validate(document)
    with database().transaction(envelope.tenant_id) as tx:
        SagaLog(tx, batch_id).begin(SAGA, STEPS, command, execution=started)


def _stop(envelope: Envelope) -> None:
    batch_id = UUID(envelope.payload["batch_id"])
    if not execution.stop(required("BATCH_PIPELINE_ARN"), str(batch_id), "cancelled"):
        logger.info("cancelled before its pipeline began")
    ARTIFACTS.delete_all(artifacts.prefix(envelope.tenant_id, batch_id))


@consumer
def parse_file(envelope: Envelope) -> None:
    """Parse one file; the last worker to take the job is the one whose result counts (V-04).

    The barrier is told also when the job turns out to be done: its first worker may have died
    between the two.
    """
    job = ParseJob.model_validate(envelope.payload)
    worker = uuid4()
    with database().transaction(envelope.tenant_id) as tx:
        attempt = repository.claim_task(tx, job.batch_id, job.file_id, worker)
    if attempt is not None:
        result = _result(envelope.tenant_id, job, attempt)
        with database().transaction(envelope.tenant_id) as tx:
            counted = repository.finish_task(tx, job.batch_id, job.file_id, worker, result)
            batch = repository.find_batch(tx, job.batch_id)
        logger.info("file done", extra={"file_id": str(job.file_id), "counted": counted})
        if batch is None or batch.status is BatchStatus.FAILED:
            # Cancelled meanwhile: what was written after the clean-up is cleaned up here.
            ARTIFACTS.delete_all(artifacts.prefix(envelope.tenant_id, job.batch_id))
    barrier.arrive(envelope.tenant_id, job.batch_id, job.file_id)


def _result(tenant_id: UUID, job: ParseJob, attempt: int) -> Features | str:
    if attempt > MAX_ATTEMPTS:
        metrics.count("parse_given_up_count")
        return f"given up: its parser did not survive {MAX_ATTEMPTS} attempts"
    with database().transaction(tenant_id) as tx:
        files = repository.list_files_to_parse(tx, job.batch_id, job.file_id)
    return parser.parse_stored(tenant_id, job, files)
