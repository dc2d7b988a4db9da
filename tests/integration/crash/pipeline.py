"""The boundaries of the batches context: uploads, consumers, steps, sweeper and reconciler.

Each stage prepares a state, runs in a process, and checks what holds after one run or after a kill.
S3, SQS, Step Functions and the schedules call again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from tests.conftest import Context
from tests.integration.batches import FEATURES, TRACE, Fleet, age, age_gate
from tests.integration.conftest import ARTIFACTS, UPLOADS
from tests.integration.crash.aws import FolderAws
from tests.integration.support import sqs_event

from batches import api, artifacts, consumers, publishing, repository, schedules, steps, uploads
from batches.analysis.diagnosis import diagnose
from batches.analysis.statistics import ParsedFile, gather_statistics
from batches.domain import BatchStatus, FileState, batch_event
from batches.repository import PARSING
from operations import dead_letters, reconciler
from skald.access.keys import Principal
from skald.entrypoints.consumer import ConsumerHandler
from skald.messaging import Envelope
from skald.saga import SagaStatus, timeline
from skald.storage.files import NewFile
from skald.telemetry import trace

LOG = b"2025-11-14T04:00:00Z ERROR E1001 battery voltage low\n2025-11-14T04:00:01Z INFO all well\n"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:batch-pipeline"
FILE = "a.log"
TOKEN = "token"  # noqa: S105 (of a task)


@dataclass(frozen=True)
class Ground:
    """What a stage works with: the batches of a tenant, an AWS, and the clock of the database."""

    fleet: Fleet
    aws: FolderAws
    admin: Connection[DictRow]

    def count(self, event_type: str) -> int:
        """Return how many events of a type the tenant has published."""
        with self.fleet.database.transaction(self.fleet.tenant) as tx:
            return int(
                tx.value("select count(*) from skald.outbox where event_type = %s", (event_type,))
            )

    def saga(self, batch_id: UUID) -> SagaStatus:
        found = self.fleet.do(timeline.find, str(batch_id))
        assert found is not None
        return found.status

    def artifacts(self, batch_id: UUID) -> set[str]:
        prefix = artifacts.prefix(self.fleet.tenant, batch_id)
        return {
            key.removeprefix(prefix)
            for key in self.aws.objects(ARTIFACTS)
            if key.startswith(prefix)
        }


@dataclass(frozen=True)
class Stage:
    """`prepare` returns the batch; `run` takes tenant and batch in its own process."""

    prepare: Callable[[Ground], UUID]
    run: Callable[[UUID, UUID], None]
    holds: Callable[[Ground, UUID], None]


def _command(tenant: UUID, batch_id: UUID, **more: Any) -> dict[str, Any]:
    ids = {"saga_id": str(batch_id), "batch_id": str(batch_id), "tenant_id": str(tenant)}
    return ids | {"trace_id": TRACE} | more


def _deliver(handler: ConsumerHandler, envelope: Envelope) -> None:
    answer = handler(sqs_event(envelope.model_dump_json()), Context())
    assert answer == {"batchItemFailures": []}


# Consumers ----------------------------------------------------------------------------------------


def _arrive(tenant: UUID, batch_id: UUID) -> None:
    found = {"key": uploads.files.name(tenant, batch_id, FILE).key, "size": len(LOG)}
    s3 = {"bucket": {"name": UPLOADS}, "object": found}
    consumers.file_arrived({"Records": [{"s3": s3}]}, Context())


def _registered_once(ground: Ground, batch_id: UUID) -> None:
    assert _only_file(ground, batch_id).arrived_at is not None
    assert ground.fleet.counts(batch_id) == (1, 0, 0)


# Uploads ------------------------------------------------------------------------------------------


def _register(tenant: UUID, batch_id: UUID) -> None:
    uploads.files.register(tenant, batch_id, NewFile(name=FILE, size=len(LOG)))


def _has_one_upload(ground: Ground, batch_id: UUID) -> None:
    file = _only_file(ground, batch_id)
    assert ground.aws("ListParts", {"UploadId": file.upload_id}) == {"Parts": []}
    assert ground.fleet.counts(batch_id) == (1, 0, 0)


def _sent(ground: Ground) -> UUID:
    """A batch whose file is in S3 as parts."""
    batch_id = ground.fleet.pending()
    name, table = ground.fleet.name(batch_id, FILE), repository.FILES
    upload_id = ground.aws("CreateMultipartUpload", {})["UploadId"]
    ground.aws("UploadPart", {"UploadId": upload_id, "PartNumber": 1, "Body": LOG})
    with ground.fleet.database.transaction(ground.fleet.tenant) as tx:
        table.add(tx, name, len(LOG))
        table.start_upload(
            tx, batch_id, name.file_id, upload_id=upload_id, size=len(LOG), instead_of=None
        )
    return batch_id


def _assemble(tenant: UUID, batch_id: UUID) -> None:
    file_id = uploads.files.name(tenant, batch_id, FILE).file_id
    uploads.files.complete(tenant, batch_id, file_id)


def _assembled_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.name(batch_id, FILE).key in ground.aws.objects(UPLOADS)
    _registered_once(ground, batch_id)


def _unnoticed(ground: Ground) -> UUID:
    """A batch whose file is in S3 and whose notification is lost."""
    batch_id = ground.fleet.pending()
    name = ground.fleet.name(batch_id, FILE)
    ground.fleet.do(repository.FILES.add, name, len(LOG))
    ground.aws.put(UPLOADS, name.key, LOG)
    return batch_id


def _close(tenant: UUID, batch_id: UUID) -> None:
    api.complete_batch(batch_id, Principal(tenant, "test", b"hash"))


def _closed_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.batch(batch_id).status is BatchStatus.UPLOADED
    assert ground.count("batch.uploaded") == 1
    _registered_once(ground, batch_id)


def _only_file(ground: Ground, batch_id: UUID) -> FileState:
    (file,) = ground.fleet.do(repository.list_files, batch_id)
    return file


# Life of the pipeline -----------------------------------------------------------------------------


def _uploaded(ground: Ground) -> UUID:
    batch_id = ground.fleet.pending(FILE)
    ground.fleet.do(repository.enter, batch_id, BatchStatus.UPLOADED)
    return batch_id


def _start(tenant: UUID, batch_id: UUID) -> None:
    event = batch_event("batch.uploaded", tenant, batch_id, TRACE, timeout_seconds=60)
    _deliver(consumers.conduct, event)


def _started_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.aws.executions() == {str(batch_id): "RUNNING"}
    assert ground.saga(batch_id) is SagaStatus.RUNNING


def _under_way(ground: Ground) -> UUID:
    batch_id = _uploaded(ground)
    ground.aws.start(str(batch_id), "{}")
    key = artifacts.chart_key(ground.fleet.tenant, batch_id, "errors")
    ground.aws.put(ARTIFACTS, key, b"png")
    return batch_id


def _stop(tenant: UUID, batch_id: UUID) -> None:
    _deliver(consumers.conduct, batch_event("batch.cancelled", tenant, batch_id, TRACE))


def _stopped(ground: Ground, batch_id: UUID) -> None:
    assert ground.aws.executions() == {str(batch_id): "ABORTED"}
    assert ground.artifacts(batch_id) == set()


def _waiting(ground: Ground) -> UUID:
    batch_id = ground.fleet.pending(FILE)
    ground.aws.put(UPLOADS, ground.fleet.name(batch_id, FILE).key, LOG)
    ground.fleet.scatter(batch_id)
    ground.fleet.keep_token(batch_id, TOKEN)
    return batch_id


def _parse(tenant: UUID, batch_id: UUID) -> None:
    file_id = uploads.files.name(tenant, batch_id, FILE).file_id
    with trace(TRACE):
        message = PARSING.message(tenant, str(batch_id), str(file_id))
    _deliver(consumers.parse_file, message)


def _parsed_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.counts(batch_id) == (1, 1, 0)
    assert any(key.endswith("events.csv") for key in ground.artifacts(batch_id))
    _answered(ground, batch_id)


def _give_up(tenant: UUID, batch_id: UUID) -> None:
    _deliver(dead_letters.collect, batch_event("batch.uploaded", tenant, batch_id, TRACE))


def _kept_once(ground: Ground, _: UUID) -> None:
    with ground.fleet.database.transaction(ground.fleet.tenant) as tx:
        assert tx.value("select count(*) from skald.dead_letters") == 1


def _answered(ground: Ground, _: UUID) -> None:
    assert ground.aws.answers() == {TOKEN}


# Steps --------------------------------------------------------------------------------------------


def _scatter(tenant: UUID, batch_id: UUID) -> None:
    steps.scatter(_command(tenant, batch_id), Context())


def _scattered_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.counts(batch_id) == (1, 0, 0)
    assert ground.count("file.parse") == 1


def _parsed(ground: Ground) -> UUID:
    return ground.fleet.scattered(FILE)


def _await(tenant: UUID, batch_id: UUID) -> None:
    steps.await_parsing(_command(tenant, batch_id, task_token=TOKEN), Context())


def _half_parsed(ground: Ground) -> UUID:
    batch_id = ground.fleet.scattering(FILE, "b.log")
    ground.fleet.finish(batch_id, "b.log")
    return batch_id


def _force(tenant: UUID, batch_id: UUID) -> None:
    steps.force_gather(_command(tenant, batch_id), Context())


def _given_up_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.counts(batch_id) == (2, 2, 1)


def _gather(tenant: UUID, batch_id: UUID) -> None:
    steps.gather(_command(tenant, batch_id), Context())


def _gathered_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.batch(batch_id).status is BatchStatus.GATHERED
    gathered = ground.fleet.do(repository.find_statistics, batch_id)
    assert gathered is not None
    prefix = artifacts.prefix(ground.fleet.tenant, batch_id)
    assert {prefix + key for key in ground.artifacts(batch_id)} == set(gathered["charts"].values())


def _diagnosed(ground: Ground) -> UUID:
    """A batch with all inputs of a report."""
    fleet = ground.fleet
    batch_id = fleet.diagnosing(FILE)
    file = ParsedFile(file_id="1", name=FILE, status="completed", features=FEATURES)
    gathered = publishing.Gathered(statistics=gather_statistics([file]), charts={})
    fleet.do(repository.save_statistics, batch_id, gathered.model_dump(mode="json"))
    diagnosis = diagnose([file], gathered.statistics)
    fleet.do(repository.save_diagnosis, batch_id, diagnosis.model_dump(mode="json"))
    return batch_id


def _publish(tenant: UUID, batch_id: UUID) -> None:
    steps.publish(_command(tenant, batch_id), Context())


def _published_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.batch(batch_id).status is BatchStatus.COMPLETED
    assert ground.fleet.do(repository.find_report, batch_id) is not None
    assert ground.count("batch.completed") == 1
    assert ground.artifacts(batch_id) == {"report.html"}


def _half_made(ground: Ground) -> UUID:
    batch_id = _diagnosed(ground)
    ground.aws.put(ARTIFACTS, artifacts.page_key(ground.fleet.tenant, batch_id), b"page")
    return batch_id


def _compensate(tenant: UUID, batch_id: UUID) -> None:
    error = {"Error": "RuntimeError", "Cause": "no luck"}
    steps.compensate(_command(tenant, batch_id, error=error), Context())


def _undone_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.batch(batch_id).status is BatchStatus.FAILED
    assert ground.fleet.do(repository.find_diagnosis, batch_id) is None
    assert ground.artifacts(batch_id) == set()
    assert ground.count("batch.failed") == 1
    assert ground.saga(batch_id) is SagaStatus.COMPENSATED


# Repairs ------------------------------------------------------------------------------------------


def _left_closed(ground: Ground) -> UUID:
    batch_id = ground.fleet.scattering(FILE)
    ground.fleet.keep_token(batch_id, TOKEN)
    ground.fleet.finish(batch_id, FILE)
    age_gate(ground.admin, str(batch_id), timedelta(hours=1))
    return batch_id


def _stuck(ground: Ground) -> UUID:
    batch_id = ground.fleet.diagnosing(FILE)
    age(ground.admin, batch_id, timedelta(hours=1))
    return batch_id


def _sweep(*_: UUID) -> None:
    schedules.sweep({}, Context())


def _failed_once(ground: Ground, batch_id: UUID) -> None:
    assert ground.fleet.batch(batch_id).failure_code == "diagnosis_stuck"
    assert ground.count("batch.failed") == 1


def _died(ground: Ground) -> UUID:
    """A batch whose execution started and was aborted."""
    batch_id = _half_made(ground)
    ground.aws.start(str(batch_id), "{}")
    ground.aws.stop(str(batch_id))
    ground.admin.execute(
        """
        insert into skald.saga_transactions
            (tenant_id, saga_id, kind, steps, input, execution, trace_id, updated_at)
        values (%s, %s, 'batch_pipeline', '[]', %s, %s, %s, now() - interval '1 hour')
        """,
        (
            ground.fleet.tenant,
            str(batch_id),
            Jsonb(_command(ground.fleet.tenant, batch_id)),
            f"{MACHINE.replace(':stateMachine:', ':execution:')}:{batch_id}",
            TRACE,
        ),
    )
    return batch_id


def _reconcile(*_: UUID) -> None:
    reconciler.reconcile({}, Context())


STAGES = {
    "arrival": Stage(lambda ground: ground.fleet.pending(), _arrive, _registered_once),
    "register": Stage(lambda ground: ground.fleet.pending(), _register, _has_one_upload),
    "assemble": Stage(_sent, _assemble, _assembled_once),
    "close": Stage(_unnoticed, _close, _closed_once),
    "start": Stage(_uploaded, _start, _started_once),
    "stop": Stage(_under_way, _stop, _stopped),
    "parse": Stage(_waiting, _parse, _parsed_once),
    "collect": Stage(_uploaded, _give_up, _kept_once),
    "scatter": Stage(_uploaded, _scatter, _scattered_once),
    "await": Stage(_parsed, _await, _answered),
    "force": Stage(_half_parsed, _force, _given_up_once),
    "gather": Stage(_parsed, _gather, _gathered_once),
    "publish": Stage(_diagnosed, _publish, _published_once),
    "undo": Stage(_half_made, _compensate, _undone_once),
    "gate": Stage(_left_closed, _reconcile, _answered),
    "sweep": Stage(_stuck, _sweep, _failed_once),
    "reconcile": Stage(_died, _reconcile, _undone_once),
}
