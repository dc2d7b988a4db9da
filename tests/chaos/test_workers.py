"""V-04: parse workers that die or stand still in the middle of a file."""

import json
import signal
from typing import Any
from uuid import UUID

from tests.chaos.jobs import VISIBILITY_SECONDS
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for

LINES = 150_000
LONG = flows.lines(LINES, errors=9)
"""Takes a worker long enough to be met in the middle of it."""
DIAGNOSED = "select 1 from batches.diagnoses where batch_id = %s"


def worker_in_the_middle(skald: Deployment, batch_id: UUID, attempt: int = 1) -> int:
    """Wait until a worker has claimed long.log for this attempt and return its pid."""

    def look() -> int | None:
        task = flows.tasks(skald, batch_id).get("long.log", {})
        if (task.get("status"), task.get("attempts")) != ("processing", attempt):
            return None
        # The claim may be there before the worker is seen at work, and others may still end.
        pids = skald.workers("ParseFile")
        return pids[0] if len(pids) == 1 else None

    return wait_for("worker in the middle of its file", look, 60)


def test_killed_in_the_middle(skald: Deployment, tenant: Tenant) -> None:
    """V-04: a worker is killed in the middle of a file; its job comes back, another does it, and
    nothing is counted twice."""
    batch_id = flows.open_batch(tenant, {"long.log": LONG})
    with skald.visibility("ParseQueue", VISIBILITY_SECONDS):
        tenant.client.complete(batch_id)
        skald.signal(worker_in_the_middle(skald, batch_id), signal.SIGKILL)
        report = flows.assert_ended_once(skald, tenant, batch_id, events={"long.log": LINES})
    assert flows.tasks(skald, batch_id)["long.log"]["attempts"] == 2
    assert report["statistics"]["errors"] == 9
    assert report["outcome"] == "complete"


def test_file_that_kills_its_parsers(skald: Deployment, tenant: Tenant) -> None:
    """V-04: a file whose parser dies three times is given up with a reason; the rest of the batch
    is reported."""
    batch_id = flows.open_batch(tenant, {"good.log": flows.lines(12), "long.log": LONG})
    with skald.visibility("ParseQueue", 3):
        tenant.client.complete(batch_id)
        for attempt in (1, 2, 3):
            skald.signal(worker_in_the_middle(skald, batch_id, attempt), signal.SIGKILL)
        counts = {"good.log": 12, "long.log": 0}
        report = flows.assert_ended_once(skald, tenant, batch_id, events=counts)
    reasons = {row["name"]: row["reason"] for row in report["statistics"]["files"]}
    assert reasons["long.log"] == "given up: its parser did not survive 3 attempts"
    assert flows.dead_letters(skald, tenant) == []


def test_standing_still_while_another_takes_over(skald: Deployment, tenant: Tenant) -> None:
    """V-04: a worker stands still in the middle of a file until another has done its job and the
    report is out; what it writes when it wakes is fenced off."""
    batch_id = flows.open_batch(tenant, {"long.log": LONG})
    with skald.visibility("ParseQueue", VISIBILITY_SECONDS):
        tenant.client.complete(batch_id)
        sleeper = worker_in_the_middle(skald, batch_id)
        skald.signal(sleeper, signal.SIGSTOP)
        try:
            report = flows.assert_ended_once(skald, tenant, batch_id, events={"long.log": LINES})
            before = (tenant.client.batch(batch_id), flows.tasks(skald, batch_id))
            assert before[1]["long.log"]["attempts"] == 2
        finally:
            skald.signal(sleeper, signal.SIGCONT)
        file_id = str(before[1]["long.log"]["file_id"])
        wait_for("end of both workers", lambda: len(_verdicts(skald, file_id)) == 2)
    assert _verdicts(skald, file_id) == [True, False]
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert (tenant.client.batch(batch_id), flows.tasks(skald, batch_id)) == before
    assert tenant.client.report(batch_id)["statistics"] == report["statistics"]
    table = f"{tenant.tenant_id}/{batch_id}/tables/{file_id}/events.csv"
    assert skald.read("ArtifactsBucket", table).count(b"\n") == LINES + 1
    flows.assert_ended_once(skald, tenant, batch_id, events={"long.log": LINES})


def test_awake_after_the_gather_was_forced(skald: Deployment, tenant: Tenant) -> None:
    """V-06: a worker sleeps through its batch's time; awake again, its result is not counted."""
    files = {"long.log": LONG, "quick.log": flows.lines(15)}
    batch_id = flows.open_batch(tenant, files, timeout_seconds=5)
    tenant.client.complete(batch_id)
    sleeper = worker_in_the_middle(skald, batch_id)
    skald.signal(sleeper, signal.SIGSTOP)
    counts = {"long.log": 0, "quick.log": 15}
    try:
        report = flows.assert_ended_once(skald, tenant, batch_id, events=counts)
        before = (tenant.client.batch(batch_id), flows.tasks(skald, batch_id))
    finally:
        skald.signal(sleeper, signal.SIGCONT)
    assert report["outcome"] == "partial"
    file_id = str(before[1]["long.log"]["file_id"])
    wait_for("end of the worker", lambda: _verdicts(skald, file_id) == [False])
    assert (tenant.client.batch(batch_id), flows.tasks(skald, batch_id)) == before
    flows.assert_ended_once(skald, tenant, batch_id, events=counts)


def test_awake_after_the_batch_was_cancelled(skald: Deployment, tenant: Tenant) -> None:
    """V-03: a worker sleeps while its batch is cancelled and cleaned up; awake again, it leaves
    nothing behind."""
    batch_id = flows.open_batch(tenant, {"long.log": LONG})
    tenant.client.complete(batch_id)
    sleeper = worker_in_the_middle(skald, batch_id)
    skald.signal(sleeper, signal.SIGSTOP)
    try:
        flows.wait_until_parsing(skald, batch_id)
        tenant.client.cancel(batch_id)
        wait_for("outbox without unsent rows", lambda: not flows.unsent(skald, batch_id))
        wait_for("stop of the pipeline", lambda: skald.is_empty("PipelineQueue"))
    finally:
        skald.signal(sleeper, signal.SIGCONT)
    file_id = str(flows.tasks(skald, batch_id)["long.log"]["file_id"])
    wait_for("end of the worker", lambda: _verdicts(skald, file_id) == [False])
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert skald.stored("ArtifactsBucket", f"{tenant.tenant_id}/{batch_id}/") == []
    batch = tenant.client.batch(batch_id)
    assert (batch["status"], batch["failure_code"]) == ("failed", "cancelled")
    assert skald.events(batch_id, "batch.completed") == []
    flows.answer_token(skald, batch_id)  # LocalStack keeps the stopped pipeline until then


def test_step_killed(skald: Deployment, tenant: Tenant) -> None:
    """C-07: the gather is killed while it draws; the state machine runs it again."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(20_000, errors=5)})
    tenant.client.complete(batch_id)
    pids = wait_for("gather at work", lambda: skald.workers("Gather"), 30)
    skald.signal(pids[0], signal.SIGKILL)
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 20_000})
    assert skald.task_errors(batch_id) == ["Runtime.ExitError"]


def test_killed_in_the_middle_of_a_diagnosis(skald: Deployment, tenant: Tenant) -> None:
    """V-13, G-04: a worker is killed while its agents work; the message comes back, another goes
    on with them, and one diagnosis is in one report."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(400, errors=300)})
    with skald.visibility("DiagnosisQueue", VISIBILITY_SECONDS):
        tenant.client.complete(batch_id)
        wait_for("agents at work", lambda: flows.status(tenant, batch_id) == "diagnosing")
        for pid in skald.workers("Diagnose"):
            skald.signal(pid, signal.SIGKILL)
        assert skald.sql(DIAGNOSED, batch_id) == [], "killed too late to show anything"
        report = flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 400})
    assert len(skald.sql(DIAGNOSED, batch_id)) == 1
    path = report["diagnosis"]["path"]
    assert (path[0]["node"], path[-1]["node"]) == ("supervisor", "conclusion")
    wait_for("empty queue", lambda: skald.is_empty("DiagnosisQueue"))
    assert skald.is_empty("DiagnosisDeadLetters")


def test_standing_still_in_the_middle_of_a_diagnosis(skald: Deployment, tenant: Tenant) -> None:
    """V-13, G-02: a worker stands still while its agents work, until another has ended the
    diagnosis and the report is out; awake again, it writes and answers nothing."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(400, errors=300)})
    with skald.visibility("DiagnosisQueue", VISIBILITY_SECONDS):
        tenant.client.complete(batch_id)
        wait_for("agents at work", lambda: flows.status(tenant, batch_id) == "diagnosing")
        sleepers = skald.workers("Diagnose")
        for pid in sleepers:
            skald.signal(pid, signal.SIGSTOP)
        try:
            assert sleepers
            assert skald.sql(DIAGNOSED, batch_id) == [], "stopped too late to show anything"
            report = flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 400})
        finally:
            for pid in sleepers:
                skald.signal(pid, signal.SIGCONT)
        wait_for("rest of the workers", lambda: not skald.workers("Diagnose"))
    wait_for("empty queue", lambda: skald.is_empty("DiagnosisQueue"))
    assert len(skald.sql(DIAGNOSED, batch_id)) == 1
    assert tenant.client.report(batch_id)["diagnosis"] == report["diagnosis"]
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 400})


def _verdicts(skald: Deployment, file_id: str) -> list[Any]:
    """Return whether the results of a file counted, in the order their workers ended."""
    log = skald.settings.lambda_logs / f"{skald.resources['ParseFile']}.log"
    lines = [line for line in log.read_text().splitlines() if "file done" in line]
    return [json.loads(line)["counted"] for line in lines if file_id in line]
