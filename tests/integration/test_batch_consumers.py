"""C-06, C-07, V-04 to V-06: what S3, SQS and schedules deliver to batches."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from botocore.exceptions import ClientError
from psycopg import Connection
from psycopg.rows import DictRow
from tests.conftest import Context
from tests.integration.batches import FEATURES, TRACE, Fleet, age
from tests.integration.conftest import UPLOADS
from tests.integration.support import sqs_event

from batches import artifacts, consumers, failing, parser, repository, schedules, stages, steps
from batches.domain import Batch, BatchStatus, batch_event
from batches.features import Features
from skald.aws import client
from skald.messaging import Envelope
from skald.postgres import Database, Transaction
from skald.saga import SagaStatus, timeline
from skald.saga.timeline import Timeline
from skald.storage.objects import ARTIFACTS

LOG = b"2025-11-14T04:00:00Z ERROR E1001 battery voltage low\n2025-11-14T04:00:01Z INFO all well\n"


@pytest.fixture
def fleet(aws: None, database: Database, tenant: UUID) -> Fleet:
    """The tenant's batches."""
    return Fleet(database, tenant)


# file_arrived -------------------------------------------------------------------------------------


def object_created(key: str, size: int = 7) -> dict[str, Any]:
    """Return the notification that S3 sends; its keys are encoded as in a query."""
    from urllib.parse import quote_plus

    record = {"bucket": {"name": UPLOADS}, "object": {"key": quote_plus(key), "size": size}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": record}]}


def arrive(key: object, context: Context, size: int = 7) -> None:
    consumers.file_arrived(object_created(str(key), size), context)


def test_an_arriving_object_registers_itself(fleet: Fleet, context: Context) -> None:
    """C-06, V-01: an object that arrives before its row creates the row."""
    batch_id = fleet.pending()
    arrive(f"batches/{fleet.tenant}/{batch_id}/Ä b+c.log", context)
    (file,) = fleet.do(repository.list_files, batch_id)
    assert (file.name, file.size, file.status) == ("Ä b+c.log", 7, "registered")
    assert file.arrived_at is not None
    assert file.file_id == fleet.file_id(batch_id, "Ä b+c.log")


def test_a_repeated_notification_changes_nothing(fleet: Fleet, context: Context) -> None:
    """C-06: S3 may send a notification twice; the file counts once and keeps its first arrival."""
    batch_id = fleet.pending()
    arrive(f"batches/{fleet.tenant}/{batch_id}/a.log", context)
    before = fleet.do(repository.list_files, batch_id)
    arrive(f"batches/{fleet.tenant}/{batch_id}/a.log", context)
    assert fleet.do(repository.list_files, batch_id) == before
    assert fleet.counts(batch_id) == (1, 0, 0)


def test_a_registered_file_is_marked(fleet: Fleet, context: Context) -> None:
    """V-01: the notification finds the row that the API created."""
    batch_id = fleet.pending()
    fleet.do(repository.FILES.add, fleet.name(batch_id, "a.log"), 9)
    arrive(f"batches/{fleet.tenant}/{batch_id}/a.log", context)
    (file,) = fleet.do(repository.list_files, batch_id)
    assert (file.size, file.arrived_at is None) == (7, False)
    assert fleet.counts(batch_id) == (1, 0, 0)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a.log",
        "batches/a/b/c",
        "batches/{tenant}/a.log",
        "batches/{tenant}/{batch}/x/a.log",
        "batches/{tenant}/{batch}/",
        "{tenant}/{batch}/a.log",
        "exams/{tenant}/{batch}/a.log",
    ],
)
def test_keys_that_are_not_ours_are_ignored(fleet: Fleet, context: Context, key: str) -> None:
    """C-06: an object of another program is ignored and does not fail the function."""
    batch_id = fleet.pending()
    arrive(key.format(tenant=fleet.tenant, batch=batch_id), context)
    assert fleet.do(repository.list_files, batch_id) == []


def test_objects_of_unknown_batches_are_ignored(
    fleet: Fleet, context: Context, other_tenant: UUID
) -> None:
    """Q-10: an object under the name of another tenant does not reach a batch."""
    batch_id = fleet.pending()
    arrive(f"batches/{fleet.tenant}/{uuid4()}/a.log", context)
    arrive(f"batches/{other_tenant}/{batch_id}/a.log", context)
    assert fleet.do(repository.list_files, batch_id) == []


def test_late_objects_are_ignored(fleet: Fleet, context: Context) -> None:
    """V-01: an object after the completion is ignored, without an error."""
    batch_id = fleet.scattering("a.log")
    before = fleet.do(repository.list_files, batch_id)
    arrive(f"batches/{fleet.tenant}/{batch_id}/a.log", context)
    arrive(f"batches/{fleet.tenant}/{batch_id}/b.log", context)
    assert fleet.do(repository.list_files, batch_id) == before


# conduct ------------------------------------------------------------------------------------------


def uploaded(fleet: Fleet, batch_id: UUID) -> Envelope:
    return batch_event("batch.uploaded", fleet.tenant, batch_id, TRACE, timeout_seconds=60)


def deliver(handler: Callable[..., Any], *envelopes: Envelope) -> list[str]:
    """Deliver messages and return the ids of those that failed."""
    event = sqs_event(*(envelope.model_dump_json() for envelope in envelopes))
    answer = handler(event, Context())
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def execution(pipeline: str, batch_id: UUID) -> dict[str, Any]:
    arn = f"{pipeline.replace(':stateMachine:', ':execution:')}:{batch_id}"
    return dict(client("stepfunctions").describe_execution(executionArn=arn))


def test_an_uploaded_batch_starts_its_pipeline(fleet: Fleet, pipeline: str) -> None:
    """C-07: the execution is named after the batch, and its input holds only ids."""
    batch_id = fleet.pending("a.log")
    assert deliver(consumers.conduct, uploaded(fleet, batch_id)) == []
    assert json.loads(execution(pipeline, batch_id)["input"]) == {
        "saga_id": str(batch_id),
        "batch_id": str(batch_id),
        "tenant_id": str(fleet.tenant),
        "trace_id": TRACE,
        "timeout_seconds": 60,
    }


def test_a_repeated_start_is_success_when_its_input_is_the_same(
    fleet: Fleet, pipeline: str
) -> None:
    """C-07: `ExecutionAlreadyExists` after the end of the execution is no failure."""
    batch_id = fleet.pending("a.log")
    event = uploaded(fleet, batch_id)
    assert deliver(consumers.conduct, event, event) == []
    arn = execution(pipeline, batch_id)["executionArn"]
    client("stepfunctions").stop_execution(executionArn=arn)
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):  # the consumer gets it too
        client("stepfunctions").start_execution(
            stateMachineArn=pipeline,
            name=str(batch_id),
            input=execution(pipeline, batch_id)["input"],
        )
    assert deliver(consumers.conduct, event) == []


def saga_of(fleet: Fleet, batch_id: UUID) -> Timeline | None:
    return fleet.do(timeline.find, str(batch_id))


def test_a_start_begins_one_saga(fleet: Fleet, pipeline: str) -> None:
    """G-07: the saga is known by its execution before the first step; a redelivery adds none."""
    batch_id = fleet.pending("a.log")
    event = uploaded(fleet, batch_id)
    assert deliver(consumers.conduct, event) == []
    first = saga_of(fleet, batch_id)
    assert first is not None
    assert first.execution == execution(pipeline, batch_id)["executionArn"]
    assert (first.status, first.trace_id) == (SagaStatus.RUNNING, TRACE)
    assert [step.status for step in first.steps] == ["planned"] * 5
    assert deliver(consumers.conduct, event, event) == []
    again = saga_of(fleet, batch_id)
    assert again is not None
    assert again.model_copy(update={"spans": first.spans}) == first


def accepted(fleet: Fleet) -> list[str]:
    """Return the consumers that have taken an event of the tenant."""
    with fleet.database.transaction(fleet.tenant) as tx:
        return [row["consumer"] for row in tx.execute("select consumer from skald.inbox")]


def test_a_start_and_its_saga_are_noted_together(
    fleet: Fleet, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-05: the inbox row commits with the saga or not at all, and once for each event."""
    batch_id = fleet.pending("a.log")
    start, stop = (
        uploaded(fleet, batch_id),
        batch_event("batch.cancelled", fleet.tenant, batch_id, TRACE),
    )

    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(stages, "reached", refuse)
        assert deliver(consumers.conduct, start) == ["m0"]
    assert (accepted(fleet), saga_of(fleet, batch_id)) == ([], None)
    assert deliver(consumers.conduct, start, start, stop, stop) == []
    assert accepted(fleet) == [consumers.CONDUCTOR] * 2


def test_a_start_without_a_saga_is_completed_by_its_redelivery(fleet: Fleet, pipeline: str) -> None:
    """G-07: an execution without a saga gets one when the start is delivered again."""
    batch_id = fleet.pending("a.log")
    document = {
        "saga_id": str(batch_id),
        "batch_id": str(batch_id),
        "tenant_id": str(fleet.tenant),
        "trace_id": TRACE,
        "timeout_seconds": 60,
    }
    started = client("stepfunctions").start_execution(
        stateMachineArn=pipeline, name=str(batch_id), input=json.dumps(document)
    )
    assert saga_of(fleet, batch_id) is None
    assert deliver(consumers.conduct, uploaded(fleet, batch_id)) == []
    saga = saga_of(fleet, batch_id)
    assert saga is not None
    assert (saga.execution, saga.status) == (started["executionArn"], SagaStatus.RUNNING)


def test_a_pipeline_that_was_faster_than_its_saga_stays_compensated(
    fleet: Fleet, pipeline: str, context: Context
) -> None:
    """G-07: a saga that is opened after its compensation does not stay in `running`."""
    batch_id = fleet.pending("a.log")
    told = {
        "saga_id": str(batch_id),
        "batch_id": str(batch_id),
        "tenant_id": str(fleet.tenant),
        "error": {"Error": "States.Runtime", "Cause": "bad path"},
    }
    assert steps.compensate(told, context) == {"undone": True}
    assert deliver(consumers.conduct, uploaded(fleet, batch_id)) == []
    saga = saga_of(fleet, batch_id)
    assert saga is not None
    assert saga.status is SagaStatus.COMPENSATED


def test_a_start_under_a_taken_name_fails(fleet: Fleet, pipeline: str) -> None:
    """C-07: another input under the same name is an error, not a success."""
    batch_id = fleet.pending("a.log")
    client("stepfunctions").start_execution(
        stateMachineArn=pipeline, name=str(batch_id), input='{"other": 1}'
    )
    assert deliver(consumers.conduct, uploaded(fleet, batch_id)) == ["m0"]


def test_a_cancelled_batch_stops_its_pipeline_and_is_cleaned_up(
    fleet: Fleet, pipeline: str
) -> None:
    """V-03: the execution ends and its artifacts are deleted; those of other batches stay."""
    batch_id, other = fleet.pending("a.log"), fleet.pending("a.log")
    deliver(consumers.conduct, uploaded(fleet, batch_id))
    for owner in (batch_id, other):
        ARTIFACTS.write(artifacts.chart_key(fleet.tenant, owner, "c"), b"png", "image/png")
    event = batch_event("batch.cancelled", fleet.tenant, batch_id, TRACE)
    for _ in range(2):
        assert deliver(consumers.conduct, event) == []
    assert execution(pipeline, batch_id)["status"] == "ABORTED"
    assert ARTIFACTS.read(artifacts.chart_key(fleet.tenant, batch_id, "c")) is None
    assert ARTIFACTS.read(artifacts.chart_key(fleet.tenant, other, "c")) == b"png"


def test_cancelling_before_the_pipeline_began_is_fine(fleet: Fleet, pipeline: str) -> None:
    """V-03: a batch may be cancelled before it is uploaded."""
    event = batch_event("batch.cancelled", fleet.tenant, fleet.pending(), TRACE)
    assert deliver(consumers.conduct, event) == []


def test_an_event_the_conductor_does_not_know_goes_to_the_dead_letters(
    fleet: Fleet, pipeline: str
) -> None:
    """Q-05: a poison message fails alone."""
    poison = batch_event("batch.exploded", fleet.tenant, fleet.pending(), TRACE)
    good = uploaded(fleet, fleet.pending("a.log"))
    assert deliver(consumers.conduct, poison, good) == ["m0"]


# parse_file ---------------------------------------------------------------------------------------


def parsing(fleet: Fleet, **files: bytes) -> UUID:
    """Return a scattering batch whose files (without `.log`) are in S3; a pipeline waits for it."""
    batch_id = fleet.pending()
    for stem, body in files.items():
        name = fleet.name(batch_id, f"{stem}.log")
        fleet.do(repository.FILES.add, name, len(body))
        fleet.do(repository.FILES.mark_arrived, batch_id, {name.file_id: len(body)})
        client("s3").put_object(Bucket=UPLOADS, Key=name.key, Body=body)
    fleet.scatter(batch_id)
    fleet.keep_token(batch_id, f"token of {batch_id}")
    return batch_id


def parse(fleet: Fleet, batch_id: UUID, name: str) -> list[str]:
    return deliver(consumers.parse_file, fleet.message(batch_id, name))


def test_a_file_becomes_tables_and_features(fleet: Fleet, answered: list[str]) -> None:
    """V-04, V-05: tables are in S3, features in the task, and the last file answers the token."""
    batch_id = parsing(fleet, a=LOG, b=LOG)
    assert parse(fleet, batch_id, "a.log") == []
    assert answered == []
    assert parse(fleet, batch_id, "b.log") == []
    assert answered == [f"token of {batch_id}"]
    assert fleet.batch(batch_id).status is BatchStatus.SCATTERED
    (file, _) = fleet.do(repository.list_files, batch_id)
    assert file.features is not None
    assert (file.features.total_events, file.features.error_count) == (2, 1)
    assert "E1001" in file.features.top_error_codes
    prefix = artifacts.tables_prefix(fleet.tenant, batch_id, file.file_id)
    assert b"E1001" in (ARTIFACTS.read(f"{prefix}events.csv") or b"")


def test_a_file_that_cannot_be_parsed_is_done_too(fleet: Fleet, answered: list[str]) -> None:
    """V-06: a bad file fails with a reason, blocks no other file, and leaves no tables."""
    batch_id = parsing(fleet, a=b"")
    assert parse(fleet, batch_id, "a.log") == []
    assert fleet.counts(batch_id) == (1, 1, 1)
    (file,) = fleet.do(repository.list_files, batch_id)
    assert file.reason == "the file is empty"
    assert len(answered) == 1
    prefix = artifacts.prefix(fleet.tenant, batch_id)
    assert "Contents" not in client("s3").list_objects_v2(Bucket=ARTIFACTS.name, Prefix=prefix)


def test_a_redelivered_job_is_counted_once(fleet: Fleet, answered: list[str]) -> None:
    """V-05: a redelivery counts once, and the pipeline is told once that its files are done."""
    batch_id = parsing(fleet, a=LOG, b=LOG)
    for _ in range(3):
        assert parse(fleet, batch_id, "a.log") == []
    assert fleet.counts(batch_id) == (2, 1, 0)
    assert answered == []
    parse(fleet, batch_id, "b.log")
    parse(fleet, batch_id, "b.log")
    assert fleet.counts(batch_id) == (2, 2, 0)
    assert answered == [f"token of {batch_id}"]


def test_a_worker_that_died_before_the_barrier_is_made_good(
    fleet: Fleet, answered: list[str]
) -> None:
    """V-05: the task is committed and the barrier is not; the redelivery arrives at the barrier."""
    batch_id = parsing(fleet, a=LOG)
    fleet.finish(batch_id, "a.log")
    assert answered == []
    parse(fleet, batch_id, "a.log")
    assert answered == [f"token of {batch_id}"]


def test_a_late_worker_neither_counts_nor_opens_the_barrier(
    fleet: Fleet, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-05: a worker whose job was taken over does not finish the file, so no early gather."""
    batch_id = parsing(fleet, a=LOG, b=LOG)
    parse(fleet, batch_id, "b.log")
    second = uuid4()

    def slow(*_: object) -> Features:
        fleet.claim(batch_id, "a.log", second)  # SQS has delivered the job again
        return FEATURES

    monkeypatch.setattr(parser, "parse_stored", slow)
    assert parse(fleet, batch_id, "a.log") == []
    assert fleet.counts(batch_id) == (2, 1, 0)
    assert answered == [], "the file is still being parsed"
    assert fleet.finish(batch_id, "a.log", second)
    parse(fleet, batch_id, "a.log")
    assert answered == [f"token of {batch_id}"]


def test_a_file_that_kills_its_parsers_is_given_up(
    fleet: Fleet, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-06: after three attempts the file fails, so it kills no fourth worker."""
    batch_id = parsing(fleet, a=LOG)
    for _ in range(3):
        fleet.claim(batch_id, "a.log", uuid4())  # and died

    def unreachable(*_: object) -> Features:
        raise AssertionError

    monkeypatch.setattr(parser, "parse_stored", unreachable)
    assert parse(fleet, batch_id, "a.log") == []
    (file,) = fleet.do(repository.list_files, batch_id)
    assert "3 attempts" in (file.reason or "")
    assert len(answered) == 1


def test_trouble_with_storage_gives_the_job_back(
    fleet: Fleet, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-04: an error that the file does not cause is retried, and the file does not fail."""
    batch_id = parsing(fleet, a=LOG)

    def broken(*_: object) -> Features:
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(parser, "parse_stored", broken)
        assert parse(fleet, batch_id, "a.log") == ["m0"]
    assert fleet.counts(batch_id) == (1, 0, 0)
    assert parse(fleet, batch_id, "a.log") == []
    assert fleet.counts(batch_id) == (1, 1, 0)


def test_a_job_of_a_cancelled_batch_leaves_nothing(
    fleet: Fleet, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-03: a parser that ends after the cancellation deletes its artifacts."""
    batch_id = parsing(fleet, a=LOG)
    prefix = artifacts.tables_prefix(fleet.tenant, batch_id, fleet.file_id(batch_id, "a.log"))

    def cancelled_meanwhile(*_: object) -> Features:
        fleet.do(repository.fail, batch_id, "cancelled", "")
        ARTIFACTS.write(f"{prefix}events.csv", b"late", "text/csv")
        return FEATURES

    monkeypatch.setattr(parser, "parse_stored", cancelled_meanwhile)
    assert parse(fleet, batch_id, "a.log") == []
    assert ARTIFACTS.read(f"{prefix}events.csv") is None
    assert answered == []


def test_a_job_for_nothing_we_know_is_dropped(fleet: Fleet, answered: list[str]) -> None:
    """Q-05: a job without a task does nothing and is not delivered again."""
    assert parse(fleet, uuid4(), "a.log") == []
    assert answered == []


# The sweeper --------------------------------------------------------------------------------------


def sweep() -> dict[str, Any]:
    return schedules.sweep({}, Context())


def failures(fleet: Fleet) -> list[Any]:
    with fleet.database.transaction(fleet.tenant) as tx:
        rows = tx.execute("select envelope from skald.outbox where event_type = 'batch.failed'")
        return [Envelope.model_validate(row["envelope"]) for row in rows]


@pytest.fixture
def nothing_stuck(admin: Connection[DictRow]) -> None:
    """Delete the batches of other tests, because the sweeper sees all tenants."""
    admin.execute("truncate batches.batches cascade")


def test_the_sweeper_fails_a_stuck_diagnosis_with_an_event(
    fleet: Fleet, admin: Connection[DictRow], nothing_stuck: None
) -> None:
    """V-06: a batch that diagnoses for 10 minutes fails, with one event; younger ones continue."""
    batch_id = fleet.diagnosing("a.log")
    age(admin, batch_id, schedules.DIAGNOSING_STUCK - timedelta(seconds=30))
    assert sweep()["stuck"] == 0
    age(admin, batch_id, schedules.DIAGNOSING_STUCK + timedelta(seconds=1))
    assert sweep()["repaired"] == 1
    batch = fleet.batch(batch_id)
    assert (batch.status, batch.failure_code) == (BatchStatus.FAILED, "diagnosis_stuck")
    (event,) = failures(fleet)
    assert (event.target_id, event.trace_id) == (str(batch_id), TRACE)
    assert event.payload["code"] == "diagnosis_stuck"
    assert sweep() == {"stuck": 0, "repaired": 0}


def test_the_sweeper_leaves_a_diagnosis_alone_that_shows_life(
    fleet: Fleet, admin: Connection[DictRow], nothing_stuck: None
) -> None:
    """V-06: a diagnosis is not stuck while its worker sends heartbeats.

    A diagnosis in the queue has not begun. A diagnosis that has ended gets its answer.
    """
    alive, waiting, ended = (fleet.diagnosing("a.log") for _ in range(3))
    fleet.do(repository.complete, ended, "complete")
    admin.execute("update batches.batches set status = 'gathered' where batch_id = %s", (waiting,))
    for batch_id in (alive, waiting, ended):
        age(admin, batch_id, schedules.DIAGNOSING_STUCK + timedelta(minutes=5))
    shown = [fleet.do(repository.show_life, batch_id) for batch_id in (alive, waiting, ended)]
    assert shown == [True, False, False]
    assert sweep() == {"stuck": 0, "repaired": 0}
    assert fleet.batch(alive).status is BatchStatus.DIAGNOSING


def test_a_diagnosis_that_ends_as_the_sweeper_looks_stands(
    fleet: Fleet, admin: Connection[DictRow], nothing_stuck: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-03: a batch that completes between the search and the repair stays completed."""
    batch_id = fleet.diagnosing("a.log")
    age(admin, batch_id, timedelta(minutes=11))
    original = repository.find_stuck

    def find_and_complete(*arguments: Any) -> list[repository.Stuck]:
        stuck = original(*arguments)
        fleet.do(repository.complete, batch_id, "complete")
        return stuck

    monkeypatch.setattr(repository, "find_stuck", find_and_complete)
    sweep()
    assert fleet.batch(batch_id).status is BatchStatus.COMPLETED
    assert failures(fleet) == []


def test_one_batch_that_cannot_be_repaired_does_not_keep_the_others_from_it(
    fleet: Fleet,
    admin: Connection[DictRow],
    nothing_stuck: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """V-06: an error in one batch does not stop the repair of the others."""
    bad, good = fleet.diagnosing("a.log"), fleet.diagnosing("a.log")
    for minutes, batch_id in ((40, bad), (20, good)):
        age(admin, batch_id, timedelta(minutes=minutes))
    original = failing.give_up

    def give_up(tx: Transaction, batch: Batch, code: str, detail: str) -> None:
        if batch.batch_id == bad:
            raise OSError("throttled")
        original(tx, batch, code, detail)

    monkeypatch.setattr(failing, "give_up", give_up)
    assert sweep() == {"stuck": 2, "repaired": 1}
    assert fleet.batch(good).status is BatchStatus.FAILED


def test_the_sweeper_stops_when_its_time_is_up(
    fleet: Fleet, admin: Connection[DictRow], nothing_stuck: None
) -> None:
    """V-06: the next run does the rest."""
    batch_id = fleet.diagnosing("a.log")
    age(admin, batch_id, timedelta(hours=1))
    assert schedules.sweep({}, Context(remaining_milliseconds=100))["repaired"] == 0
    assert fleet.batch(batch_id).status is BatchStatus.DIAGNOSING
