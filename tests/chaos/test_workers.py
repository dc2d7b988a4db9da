"""V-04: parse workers that die or freeze in the middle of a file."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from tests.chaos import jobs
from tests.chaos.recordings import ERRORS, EVENTS, NAME, RECORDING, Gate
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for
from tests.integration.model_endpoint import ModelEndpoint, Reply


def kill_in_the_middle(
    skald: Deployment, tenant: Tenant, batch_id: UUID, gate: Gate, number: int = 1
) -> None:
    """Deliver the job of the recording and kill its worker in the middle."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(jobs.delivered, skald, tenant, batch_id, NAME)
        skald.signal(gate.worker(number), signal.SIGKILL)
        assert answer.result().payload["errorType"] == "Runtime.ExitError"


@contextmanager
def standing_still(gate: Gate, skald: Deployment) -> Iterator[None]:
    """Freeze the worker in the middle of its recording for the block."""
    sleeper = gate.worker()
    skald.signal(sleeper, signal.SIGSTOP)
    try:
        yield
    finally:
        gate.open()
        skald.signal(sleeper, signal.SIGCONT)


def test_killed_in_the_middle(skald: Deployment, tenant: Tenant, gate: Gate) -> None:
    """V-04: a worker is killed in the middle of a file, its job comes again, and it counts once."""
    batch_id = flows.open_batch(tenant, {NAME: RECORDING})
    with skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        kill_in_the_middle(skald, tenant, batch_id, gate)
        gate.open()
    report = flows.assert_ended_once(skald, tenant, batch_id, events={NAME: EVENTS})
    assert flows.tasks(skald, batch_id)[NAME]["attempts"] == 2
    assert report["statistics"]["errors"] == ERRORS
    assert report["outcome"] == "complete"


def test_file_that_kills_its_parsers(skald: Deployment, tenant: Tenant, gate: Gate) -> None:
    """V-04: a file whose parser dies three times fails with a reason; the others are reported."""
    batch_id = flows.open_batch(tenant, {"good.log": flows.lines(12), NAME: RECORDING})
    with skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        for number in (1, 2, 3):
            kill_in_the_middle(skald, tenant, batch_id, gate, number)
    counts = {"good.log": 12, NAME: 0}
    report = flows.assert_ended_once(skald, tenant, batch_id, events=counts)
    reasons = {row["name"]: row["reason"] for row in report["statistics"]["files"]}
    assert reasons[NAME] == "given up: its worker did not survive 3 attempts"
    assert flows.dead_letters(skald, tenant) == []


def test_standing_still_while_another_takes_over(
    skald: Deployment, tenant: Tenant, gate: Gate
) -> None:
    """V-04: a worker freezes in the middle of a file, and another finishes its job.

    When the report is out it wakes up, and its writes are refused.
    """
    batch_id = flows.open_batch(tenant, {NAME: RECORDING})
    with ThreadPoolExecutor(1) as pool, skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        first = pool.submit(jobs.delivered, skald, tenant, batch_id, NAME)
        with standing_still(gate, skald):
            gate.open()
            jobs.deliver(skald, tenant, batch_id, NAME)
            report = flows.assert_ended_once(skald, tenant, batch_id, events={NAME: EVENTS})
            before = (tenant.client.batch(batch_id), flows.tasks(skald, batch_id))
            assert before[1][NAME]["attempts"] == 2
        assert first.result().error is None
    file_id = str(before[1][NAME]["task_id"])
    assert _verdicts(skald, file_id) == [True, False]
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert (tenant.client.batch(batch_id), flows.tasks(skald, batch_id)) == before
    assert tenant.client.report(batch_id)["statistics"] == report["statistics"]
    table = f"batches/{tenant.tenant_id}/{batch_id}/tables/{file_id}/events.csv"
    assert skald.read("ArtifactsBucket", table).count(b"\n") == EVENTS + 1
    flows.assert_ended_once(skald, tenant, batch_id, events={NAME: EVENTS})


def test_awake_after_the_gather_was_forced(skald: Deployment, tenant: Tenant, gate: Gate) -> None:
    """V-06: a worker wakes up after the timeout of its batch, and its result does not count."""
    files = {NAME: RECORDING, "quick.log": flows.lines(15)}
    batch_id = flows.open_batch(tenant, files, timeout_seconds=5)
    counts = {NAME: 0, "quick.log": 15}
    with ThreadPoolExecutor(1) as pool, skald.paused("ParseFileJob"):
        with skald.paused("ConductLifecycle"):  # the five seconds have not begun
            jobs.scatter(skald, tenant, batch_id)
            jobs.deliver(skald, tenant, batch_id, "quick.log")
            late = pool.submit(jobs.delivered, skald, tenant, batch_id, NAME)
            gate.worker()
        with standing_still(gate, skald):
            report = flows.assert_ended_once(skald, tenant, batch_id, events=counts)
            before = (tenant.client.batch(batch_id), flows.tasks(skald, batch_id))
        assert late.result().error is None
    assert report["outcome"] == "partial"
    assert _verdicts(skald, str(before[1][NAME]["task_id"])) == [False]
    assert (tenant.client.batch(batch_id), flows.tasks(skald, batch_id)) == before
    flows.assert_ended_once(skald, tenant, batch_id, events=counts)


def test_awake_after_the_batch_was_cancelled(skald: Deployment, tenant: Tenant, gate: Gate) -> None:
    """V-03: a worker wakes up after its batch was cancelled and cleaned up, and leaves nothing."""
    batch_id = flows.open_batch(tenant, {NAME: RECORDING})
    with ThreadPoolExecutor(1) as pool, skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        late = pool.submit(jobs.delivered, skald, tenant, batch_id, NAME)
        with standing_still(gate, skald):
            tenant.client.cancel(batch_id)
            wait_for("outbox without unsent rows", lambda: not flows.unsent(skald, batch_id))
            wait_for("stop of the pipeline", lambda: skald.is_empty("PipelineQueue"))
        assert late.result().error is None
    assert _verdicts(skald, str(flows.tasks(skald, batch_id)[NAME]["task_id"])) == [False]
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert skald.stored("ArtifactsBucket", f"batches/{tenant.tenant_id}/{batch_id}/") == []
    batch = tenant.client.batch(batch_id)
    assert (batch["status"], batch["failure_code"]) == ("failed", "cancelled")
    assert skald.events(batch_id, "batch.completed") == []
    flows.answer_token(skald, batch_id)  # until then LocalStack keeps it


@contextmanager
def unrecorded(skald: Deployment, tenant: Tenant, batch_id: UUID, step: str) -> Iterator[None]:
    """Block the record of a step for the block, so that a test can kill it before its end."""
    with psycopg.connect(skald.values["POSTGRES_DSN"]) as rival:
        rival.execute(
            "insert into skald.saga_steps (tenant_id, saga_id, step) values (%s, %s, %s)",
            (tenant.tenant_id, str(batch_id), step),
        )
        yield
        rival.rollback()


def test_step_killed(skald: Deployment, tenant: Tenant) -> None:
    """C-07: the gather is killed during its work; the state machine runs it again."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(20_000, errors=5)})
    with unrecorded(skald, tenant, batch_id, "gather"):
        tenant.client.complete(batch_id)
        wait_for("gather", lambda: flows.status(tenant, batch_id) == "gathering")
        pids = wait_for("gather at work", lambda: skald.workers("Gather"))
        skald.signal(pids[0], signal.SIGKILL)
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 20_000})
    assert skald.task_errors(batch_id) == ["Runtime.ExitError"]


def signalled_meanwhile(
    skald: Deployment, endpoint: ModelEndpoint, number: signal.Signals
) -> list[int]:
    """Send a signal to the workers of the next diagnosis while they wait for their first answer.

    The list gets their pids.
    """
    says, signalled = endpoint.script, list[int]()

    def signal_meanwhile(prompt: str) -> Reply:
        if not signalled:
            signalled.extend(skald.workers("Diagnose"))
            for pid in signalled:
                skald.signal(pid, number)
        return says(prompt)

    endpoint.script = signal_meanwhile
    return signalled


def end_claims(skald: Deployment, tenant: Tenant) -> None:
    """Move the leases back, so that the killed caller of a model counts as dead."""
    skald.sql(
        "update skald.model_answers set leased_until = now() - interval '1 s' where tenant_id = %s",
        tenant.tenant_id,
    )


def test_killed_in_the_middle_of_a_diagnosis(
    skald: Deployment, tenant: Tenant, endpoint: ModelEndpoint
) -> None:
    """V-13, G-04: a worker is killed during a diagnosis, and another continues from its message.

    One diagnosis is in one report.
    """
    killed = signalled_meanwhile(skald, endpoint, signal.SIGKILL)
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(400, errors=300)})
    tenant.client.complete(batch_id)
    wait_for("death of the worker", lambda: killed)
    end_claims(skald, tenant)
    report = flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 400})
    assert diagnoses(skald, batch_id) == 1
    path = report["diagnosis"]["path"]
    assert (path[0]["node"], path[-1]["node"]) == ("supervisor", "conclusion")
    wait_for("empty queue", lambda: skald.is_empty("DiagnosisQueue"))
    assert flows.dead_letters(skald, tenant) == []


def test_standing_still_in_the_middle_of_a_diagnosis(
    skald: Deployment, tenant: Tenant, endpoint: ModelEndpoint
) -> None:
    """V-13, G-02: a worker freezes during a diagnosis, and another finishes it.

    When the report is out it wakes up, and neither writes nor answers anything.
    """
    sleepers = signalled_meanwhile(skald, endpoint, signal.SIGSTOP)
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(400, errors=300)})
    tenant.client.complete(batch_id)
    wait_for("sleep of the worker", lambda: sleepers)
    try:
        end_claims(skald, tenant)
        report = flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 400})
    finally:
        for pid in sleepers:
            skald.signal(pid, signal.SIGCONT)
    wait_for("rest of the workers", lambda: not skald.workers("Diagnose"))
    wait_for("empty queue", lambda: skald.is_empty("DiagnosisQueue"))
    assert diagnoses(skald, batch_id) == 1
    assert tenant.client.report(batch_id)["diagnosis"] == report["diagnosis"]
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 400})


def diagnoses(skald: Deployment, batch_id: UUID) -> int:
    return len(skald.sql("select 1 from batches.diagnoses where batch_id = %s", batch_id))


def _verdicts(skald: Deployment, file_id: str) -> list[Any]:
    """Return whether the results of a file counted, in the order in which their workers ended."""
    log = skald.settings.lambda_logs / f"{skald.resources['ParseFile']}.log"
    lines = [line for line in log.read_text().splitlines() if "task ended" in line]
    return [json.loads(line)["counted"] for line in lines if file_id in line]
