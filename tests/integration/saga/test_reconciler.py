"""G-07, C-07: sagas whose execution died are compensated, and the timeline shows each step."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.conftest import Context
from tests.integration.support import Client, call, event, proxy_event, sqs_event

from batches import consumers, steps
from batches.domain import batch_event
from operations import reconciler as operations
from operations.operator_api import handler
from skald.aws import client
from skald.command import Command
from skald.entrypoints.step import Result, step
from skald.messaging import outbox
from skald.postgres import Database, Transaction
from skald.saga import SagaLog, SagaStatus
from skald.saga.reconciler import MAX_RECOVERIES, Death, Reconciler, find_silent

MACHINE = {
    "StartAt": "Wait",
    "States": {"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}},
}


class Machines:
    """A fake of Step Functions for the reconciler: it knows how an execution ended."""

    def __init__(self, **found: str) -> None:
        self.found = found
        self.exceptions = client("stepfunctions").exceptions

    def describe_execution(self, *, executionArn: str) -> dict[str, str]:  # noqa: ARG002, N803
        if not self.found:
            raise self.exceptions.ExecutionDoesNotExist({}, "DescribeExecution")
        return self.found


class Morgue:
    """A recovery that records dead sagas, and fails as long as the test wants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.deaths: list[Death] = []
        self.fails = False

    def __call__(self, death: Death) -> None:
        self.deaths.append(death)
        if self.fails:
            raise ZeroDivisionError("no luck")
        with self._database.transaction(death.tenant_id) as tx:
            SagaLog(tx, death.saga_id).move(
                SagaStatus.COMPENSATED, SagaStatus.RUNNING, error=death.error
            )


@pytest.fixture
def morgue(aws: None, database: Database) -> Morgue:
    return Morgue(database)


@pytest.fixture(autouse=True)
def no_sagas(admin: Connection[DictRow]) -> None:
    """Delete the sagas of other tests, because the reconciler sees all tenants."""
    admin.execute("truncate skald.saga_transactions")


def begin(database: Database, tenant: UUID, execution: str | None = "arn") -> str:
    saga_id = str(uuid4())
    command = Command(saga_id=saga_id, tenant_id=tenant, trace_id="a" * 32)
    with database.transaction(tenant) as tx:
        SagaLog(tx, saga_id).begin("order", ["one"], command, execution=execution)
    return saga_id


def be_quiet(admin: Connection[DictRow]) -> None:
    admin.execute("update skald.saga_transactions set updated_at = now() - interval '2 minutes'")


def reconcile(
    database: Database, lookout: Database, machines: Machines, morgue: Morgue
) -> list[SagaStatus | None]:
    with lookout.transaction(None) as tx:
        silent = find_silent(tx)
    subject = Reconciler(database, machines, {"order": morgue})  # type: ignore[arg-type]
    return [subject.reconcile(saga) for saga in silent]


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ({"status": "FAILED", "error": "States.Runtime", "cause": "bad path"}, "States.Runtime"),
        ({"status": "FAILED", "error": "States.DataLimitExceeded"}, "States.DataLimitExceeded"),
        ({"status": "ABORTED"}, "ABORTED"),
        ({"status": "TIMED_OUT"}, "TIMED_OUT"),
        ({}, "ExecutionGone"),
    ],
)
def test_a_dead_execution_is_recovered(
    database: Database,
    relay_database: Database,
    admin: Connection[DictRow],
    morgue: Morgue,
    tenant: UUID,
    found: dict[str, str],
    error: str,
) -> None:
    """G-07: no catch in the state machine sees this death, so the saga log is compensated, once."""
    saga_id = begin(database, tenant)
    be_quiet(admin)
    assert reconcile(database, relay_database, Machines(**found), morgue) == [
        SagaStatus.COMPENSATED
    ]
    (death,) = morgue.deaths
    assert (death.saga_id, death.tenant_id, death.error) == (saga_id, tenant, error)
    assert death.command["saga_id"] == saga_id
    be_quiet(admin)
    assert reconcile(database, relay_database, Machines(**found), morgue) == []


def test_a_living_execution_is_left_alone(
    database: Database,
    relay_database: Database,
    admin: Connection[DictRow],
    morgue: Morgue,
    tenant: UUID,
) -> None:
    """G-07: a saga that waits for half an hour is alive; it moves to the end of the queue."""
    begin(database, tenant)
    be_quiet(admin)
    assert reconcile(database, relay_database, Machines(status="RUNNING"), morgue) == [None]
    assert reconcile(database, relay_database, Machines(status="ABORTED"), morgue) == []
    assert morgue.deaths == []


def test_a_process_that_died_needs_no_execution(
    database: Database,
    relay_database: Database,
    admin: Connection[DictRow],
    morgue: Morgue,
    tenant: UUID,
) -> None:
    """G-07: a saga of the coordinator without any sign of life is resumed."""
    begin(database, tenant, execution=None)
    be_quiet(admin)
    assert reconcile(database, relay_database, Machines(), morgue) == [SagaStatus.COMPENSATED]
    assert morgue.deaths[0].error == "ProcessDied"


def test_racing_reconcilers_recover_a_saga_once(
    database: Database,
    relay_database: Database,
    admin: Connection[DictRow],
    morgue: Morgue,
    tenant: UUID,
) -> None:
    """G-07: the reconciler that finds it first claims it for a minute."""
    begin(database, tenant)
    be_quiet(admin)
    with relay_database.transaction(None) as tx:
        (saga,) = find_silent(tx)
    morgue.fails = True  # it stays running, as if the first was still at work
    machines: Any = Machines(status="ABORTED")
    subject = Reconciler(database, machines, {"order": morgue})
    subject.reconcile(saga)
    assert subject.reconcile(saga) is None
    assert len(morgue.deaths) == 1


def test_a_recovery_that_keeps_failing_waits_for_a_person(
    database: Database,
    relay_database: Database,
    admin: Connection[DictRow],
    morgue: Morgue,
    tenant: UUID,
) -> None:
    """G-07: after a number of tries the saga is parked with its error."""
    begin(database, tenant)
    morgue.fails = True
    states = []
    for _ in range(MAX_RECOVERIES):
        be_quiet(admin)
        states += reconcile(database, relay_database, Machines(status="ABORTED"), morgue)
    assert states == [SagaStatus.RUNNING] * (MAX_RECOVERIES - 1) + [SagaStatus.MANUAL_INTERVENTION]
    be_quiet(admin)
    assert reconcile(database, relay_database, Machines(status="ABORTED"), morgue) == []


# The pipeline -------------------------------------------------------------------------------------


@pytest.fixture
def machine(aws: None) -> Iterator[str]:
    machines = client("stepfunctions")
    role = "arn:aws:iam::123456789012:role/machine"
    made = machines.create_state_machine(
        name="pipeline", definition=json.dumps(MACHINE), roleArn=role
    )
    yield made["stateMachineArn"]
    machines.delete_state_machine(stateMachineArn=made["stateMachineArn"])


def test_an_aborted_pipeline_fails_its_batch(
    api: Client,
    admin: Connection[DictRow],
    database: Database,
    tenant: UUID,
    api_key: str,
    machine: str,
    context: Context,
) -> None:
    """V-03, G-07: the execution was stopped; its batch fails, with one event."""
    batch_id = api.open_batch()
    admin.execute("update batches.batches set status = 'uploaded' where batch_id = %s", (batch_id,))
    machines = client("stepfunctions")
    started = machines.start_execution(stateMachineArn=machine, name=batch_id, input="{}")
    told = {
        "saga_id": batch_id,
        "batch_id": batch_id,
        "tenant_id": str(tenant),
        "trace_id": "b" * 32,
    }
    steps.scatter(told | {"execution": started["executionArn"]}, context)
    be_quiet(admin)
    found = operations.reconcile({}, context)
    assert (found["silent"], found["recovered"]) == (1, 0), "it still runs"
    machines.stop_execution(executionArn=started["executionArn"])
    for recovered in (1, 0):
        be_quiet(admin)
        assert operations.reconcile({}, context)["recovered"] == recovered
    assert api("GET", f"/batches/{batch_id}").body["status"] == "failed"
    answer = call(handler, proxy_event("GET", f"/sagas/{batch_id}", headers={"X-Api-Key": api_key}))
    assert answer.status == 200, answer.text
    assert answer.body["status"] == "compensated"
    assert answer.body["error_message"].startswith("pipeline_failed: ABORTED")
    seen = {step["step"]: step["status"] for step in answer.body["steps"]}
    assert seen["scatter"] == seen["compensate"] == "completed"
    assert seen["publish"] == "planned"
    assert [event["event_type"] for event in answer.body["events"]] == ["batch.failed"]


def test_an_execution_that_died_before_scatter_fails_its_batch(
    api: Client,
    admin: Connection[DictRow],
    tenant: UUID,
    api_key: str,
    pipeline: str,
    context: Context,
) -> None:
    """G-07, V-03: no step has committed anything; the batch still fails, with one event."""
    batch_id = api.open_batch()
    admin.execute("update batches.batches set status = 'uploaded' where batch_id = %s", (batch_id,))
    start = batch_event("batch.uploaded", tenant, UUID(batch_id), "b" * 32, timeout_seconds=60)
    delivery = sqs_event(start.model_dump_json())
    assert consumers.conduct(delivery, context) == {"batchItemFailures": []}
    execution = f"{pipeline.replace(':stateMachine:', ':execution:')}:{batch_id}"
    client("stepfunctions").stop_execution(executionArn=execution)
    for recovered in (1, 0):
        be_quiet(admin)
        assert operations.reconcile({}, context)["recovered"] == recovered
        assert consumers.conduct(delivery, context) == {"batchItemFailures": []}
    assert api("GET", f"/batches/{batch_id}").body["status"] == "failed"
    answer = call(handler, proxy_event("GET", f"/sagas/{batch_id}", headers={"X-Api-Key": api_key}))
    assert (answer.body["status"], answer.body["execution"]) == ("compensated", execution)
    assert [event["event_type"] for event in answer.body["events"]] == ["batch.failed"]


# Timeline -----------------------------------------------------------------------------------------


def test_the_timeline_shows_steps_attempts_events_and_nothing_foreign(
    database: Database, tenant: UUID, api_key: str, other_api_key: str, context: Context
) -> None:
    """G-07: also attempts that were rolled back; another tenant's saga does not exist."""
    saga_id = begin(database, tenant)
    fails = iter([True, True, False])

    @step
    def one(command: Command, tx: Transaction) -> Result:
        outbox.publish(tx, event(tenant, correlation_id=command.saga_id))
        if next(fails):
            raise ZeroDivisionError("not yet")
        return {}

    told = {"saga_id": saga_id, "tenant_id": str(tenant)}
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            one(told, context)
    path = f"/sagas/{saga_id}"
    found = call(handler, proxy_event("GET", path, headers={"X-Api-Key": api_key})).body
    assert (found["steps"][0]["status"], found["steps"][0]["attempts"]) == ("failed", 2)
    assert found["steps"][0]["error"] == "ZeroDivisionError: not yet"
    assert found["events"] == []
    one(told, context)
    found = call(handler, proxy_event("GET", path, headers={"X-Api-Key": api_key})).body
    assert (found["steps"][0]["status"], found["steps"][0]["attempts"]) == ("completed", 3)
    assert [sent["status"] for sent in found["events"]] == ["pending"]
    foreign = call(handler, proxy_event("GET", path, headers={"X-Api-Key": other_api_key}))
    assert foreign.status == 404
