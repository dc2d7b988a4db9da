"""V-03 to V-08: the pipeline's steps, called as the state machine calls them."""

import json
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from tests.conftest import Context
from tests.integration.batches import TRACE, Fleet
from tests.integration.support import call, proxy_event, sqs_event
from tests.unit.analysis.samples import parsed

from batches import artifacts, consumers, diagnosing, precedents, repository, stages, steps
from batches.agents import investigate
from batches.analysis.findings import Diagnosis
from batches.domain import BatchStatus, NothingParsed, batch_event
from operations import traces
from skald.aws import client
from skald.entrypoints.step import StepHandler
from skald.errors import NotFound
from skald.knowledge.entries import Wanted
from skald.knowledge.ranking import search
from skald.life import IllegalTransition
from skald.messaging import Envelope
from skald.postgres import Database
from skald.saga.progress import Progress
from skald.storage.objects import ARTIFACTS


@pytest.fixture
def fleet(aws: None, database: Database, tenant: UUID) -> Fleet:
    """The tenant's batches."""
    return Fleet(database, tenant)


def command(fleet: Fleet, batch_id: UUID) -> dict[str, Any]:
    """Return the input that the state machine gives each step."""
    return {
        "saga_id": str(batch_id),
        "batch_id": str(batch_id),
        "tenant_id": str(fleet.tenant),
        "trace_id": TRACE,
    }


def run(step: StepHandler, fleet: Fleet, batch_id: UUID, **more: Any) -> dict[str, Any]:
    """Invoke a step with the input of the state machine."""
    return step(command(fleet, batch_id) | more, Context())


def uploaded(fleet: Fleet, *names: str) -> UUID:
    batch_id = fleet.pending(*names)
    fleet.do(repository.enter, batch_id, BatchStatus.UPLOADED)
    return batch_id


def events(fleet: Fleet, event_type: str) -> list[Envelope]:
    with fleet.database.transaction(fleet.tenant) as tx:
        rows = tx.execute(
            "select envelope from skald.outbox where event_type = %s order by position",
            (event_type,),
        )
        return [Envelope.model_validate(row["envelope"]) for row in rows]


def artifacts_of(fleet: Fleet, batch_id: UUID) -> list[str]:
    prefix = artifacts.prefix(fleet.tenant, batch_id)
    found = client("s3").list_objects_v2(Bucket=ARTIFACTS.name, Prefix=prefix).get("Contents", [])
    return [entry["Key"].removeprefix(prefix) for entry in found]


# Scatter and wait ---------------------------------------------------------------------------------


def test_scatter_makes_one_task_and_one_job_per_file(fleet: Fleet) -> None:
    """V-04: also when the step is repeated; jobs carry ids, tenant and trace."""
    batch_id = uploaded(fleet, "a.log", "b.log")
    assert [run(steps.scatter, fleet, batch_id) for _ in range(2)] == [{"files": 2}] * 2
    assert fleet.batch(batch_id).status is BatchStatus.SCATTERING
    assert {file.status for file in fleet.do(repository.list_files, batch_id)} == {"pending"}
    jobs = events(fleet, "file.parse")
    assert {(job.payload["saga_id"], job.payload["task_id"]) for job in jobs} == {
        (str(batch_id), str(fleet.file_id(batch_id, name))) for name in ("a.log", "b.log")
    }
    assert len(jobs) == 2
    assert {(job.tenant_id, job.trace_id) for job in jobs} == {(fleet.tenant, TRACE)}


def test_a_batch_that_is_not_uploaded_is_not_scattered(fleet: Fleet) -> None:
    """V-01, V-03: nothing is processed until every file has arrived."""
    batch_id = fleet.pending("a.log")
    with pytest.raises(IllegalTransition):
        run(steps.scatter, fleet, batch_id)
    assert events(fleet, "file.parse") == []


def test_a_foreign_batch_is_not_scattered(fleet: Fleet, other_tenant: UUID) -> None:
    """Q-10: a step with the id of another tenant finds nothing."""
    batch_id = uploaded(fleet, "a.log")
    with pytest.raises(IllegalTransition, match="gone"):
        run(steps.scatter, fleet, batch_id, tenant_id=str(other_tenant))
    assert fleet.batch(batch_id).status is BatchStatus.UPLOADED


def test_the_wait_leaves_its_latest_token(fleet: Fleet, answered: list[str]) -> None:
    """V-05: a retried wait brings a new token, and the new token gets the answer."""
    batch_id = fleet.scattering("a.log")
    for token in ("first", "second"):
        assert run(steps.await_parsing, fleet, batch_id, task_token=token) == {}
    assert answered == []
    assert fleet.token(batch_id) == "second"


def test_a_wait_that_comes_after_the_files_answers_itself(
    fleet: Fleet, answered: list[str]
) -> None:
    """V-05: the files may end before the step waits for them."""
    batch_id = fleet.scattered("a.log")
    run(steps.await_parsing, fleet, batch_id, task_token="late")  # noqa: S106
    assert answered == ["late"]


def test_a_forced_gather_fails_the_missing_files(fleet: Fleet) -> None:
    """V-06: after the timeout the open files fail, once, and the batch continues."""
    batch_id = fleet.scattering("a.log", "b.log")
    fleet.finish(batch_id, "a.log")
    assert [run(steps.force_gather, fleet, batch_id) for _ in range(2)] == [{"given_up": 1}] * 2
    assert fleet.counts(batch_id) == (2, 2, 1)
    assert fleet.batch(batch_id).status is BatchStatus.SCATTERED
    reasons = {file.name: file.reason for file in fleet.do(repository.list_files, batch_id)}
    assert reasons == {"a.log": None, "b.log": "no answer within 1800 s"}


# Gather, diagnose, publish ------------------------------------------------------------------------


def diagnose(fleet: Fleet, batch_id: UUID, **more: Any) -> bool:
    """Deliver the message of the queued step. Returns whether it was done."""
    body = json.dumps(command(fleet, batch_id) | more)
    failures: list[Any] = diagnosing.diagnose(sqs_event(body), Context())["batchItemFailures"]
    return not failures


def publish(fleet: Fleet, batch_id: UUID) -> dict[str, Any]:
    run(steps.gather, fleet, batch_id)
    diagnose(fleet, batch_id)
    return run(steps.publish, fleet, batch_id)


def test_the_report_comes_out_once(fleet: Fleet) -> None:
    """V-07, V-08, V-10: one row, final state, page and event, though steps are repeated."""
    batch_id = fleet.scattered("a.log", "b.log")
    results = [publish(fleet, batch_id) for _ in range(2)]
    assert results == [{"outcome": "complete"}] * 2
    assert fleet.batch(batch_id).status is BatchStatus.COMPLETED
    report = fleet.do(repository.find_report, batch_id)
    assert report is not None
    assert report["batch_id"] == str(batch_id)
    assert "report.html" in artifacts_of(fleet, batch_id)
    (event,) = events(fleet, "batch.completed")
    assert (event.payload["outcome"], event.trace_id) == ("complete", TRACE)
    stages = list(report["stages"])
    assert stages[:3] == ["pending", "uploaded", "scattering"]


def test_a_report_without_some_files_is_partial(fleet: Fleet) -> None:
    """V-06: the parsed files are reported, and the report says that it is partial."""
    batch_id = fleet.scattering("a.log", "b.log")
    fleet.finish(batch_id, "a.log")
    fleet.finish(batch_id, "b.log", result="broken")
    assert publish(fleet, batch_id) == {"outcome": "partial"}
    assert fleet.batch(batch_id).outcome == "partial"


def test_nothing_parsed_is_no_report(fleet: Fleet) -> None:
    """V-06: a batch of broken files fails with an error name of its own."""
    batch_id = fleet.scattering("a.log")
    fleet.finish(batch_id, "a.log", result="broken")
    with pytest.raises(NothingParsed, match="none of 1 files"):
        run(steps.gather, fleet, batch_id)


def test_work_that_fails_is_done_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """C-07: a diagnosis that failed leaves its state unchanged, and its retry completes it."""
    batch_id = fleet.scattered("a.log")
    run(steps.gather, fleet, batch_id)

    def lose(*_: object, **__: object) -> Diagnosis:
        raise psycopg.OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(diagnosing, "investigate", lose)
        assert not diagnose(fleet, batch_id)
    assert fleet.batch(batch_id).status is BatchStatus.DIAGNOSING
    assert diagnose(fleet, batch_id)
    assert fleet.do(repository.find_diagnosis, batch_id) is not None


def test_a_diagnosis_that_comes_after_its_batch_was_failed_is_not_kept(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-07: a worker that ends after its wait must not write after the compensation."""
    batch_id = fleet.scattered("a.log")
    run(steps.gather, fleet, batch_id)

    def investigate_too_long(*case: Any, **around: Any) -> Diagnosis:
        diagnosis = investigate(*case, **around)
        run(steps.compensate, fleet, batch_id, error=ERROR)
        return diagnosis

    monkeypatch.setattr(diagnosing, "investigate", investigate_too_long)
    assert diagnose(fleet, batch_id)
    assert fleet.batch(batch_id).status is BatchStatus.FAILED
    assert fleet.do(repository.find_diagnosis, batch_id) is None


def test_a_queued_batch_is_not_yet_being_diagnosed(fleet: Fleet, answered: list[str]) -> None:
    """V-06: the sweeper counts from the moment when a worker takes the message."""
    batch_id = fleet.scattered("a.log")
    run(steps.gather, fleet, batch_id)
    assert fleet.batch(batch_id).status is BatchStatus.GATHERED
    assert diagnose(fleet, batch_id, task_token="token")  # noqa: S106
    assert fleet.batch(batch_id).status is BatchStatus.DIAGNOSING
    assert answered == ["token"]


def test_report_and_completion_are_one(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """G-05, C-09: if the event cannot be stored, neither the report nor the final state is."""
    batch_id = fleet.scattered("a.log")
    run(steps.gather, fleet, batch_id)
    diagnose(fleet, batch_id)

    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("skald.messaging.outbox.publish", refuse)
        with pytest.raises(ZeroDivisionError):
            run(steps.publish, fleet, batch_id)
    assert fleet.batch(batch_id).status is BatchStatus.DIAGNOSING
    assert fleet.do(repository.find_report, batch_id) is None
    assert run(steps.publish, fleet, batch_id) == {"outcome": "complete"}


def test_a_cancelled_batch_is_not_published(fleet: Fleet) -> None:
    """V-03: steps that run while the batch is cancelled change nothing."""
    batch_id = fleet.scattered("a.log")
    run(steps.gather, fleet, batch_id)
    fleet.do(repository.fail, batch_id, "cancelled", "")
    with pytest.raises(IllegalTransition):
        run(steps.scatter, fleet, batch_id)
    assert diagnose(fleet, batch_id)
    assert fleet.do(repository.find_diagnosis, batch_id) is None
    assert events(fleet, "batch.completed") == []


# Compensation -------------------------------------------------------------------------------------

ERROR = {"Error": "RuntimeError", "Cause": '{"errorMessage": "no luck", "stackTrace": []}'}


def test_compensation_undoes_everything_and_tells(fleet: Fleet) -> None:
    """C-07: artifacts and diagnosis go, the batch fails with a reason, one event is sent."""
    batch_id = fleet.scattered("a.log")
    run(steps.gather, fleet, batch_id)
    diagnose(fleet, batch_id)
    ARTIFACTS.write(artifacts.chart_key(fleet.tenant, batch_id, "c"), b"png", "image/png")
    for _ in range(2):
        assert run(steps.compensate, fleet, batch_id, error=ERROR) == {"undone": True}
    batch = fleet.batch(batch_id)
    assert (batch.status, batch.failure_code) == (BatchStatus.FAILED, "pipeline_failed")
    assert batch.failure_detail == "RuntimeError: no luck"
    assert fleet.do(repository.find_diagnosis, batch_id) is None
    assert artifacts_of(fleet, batch_id) == []
    (event,) = events(fleet, "batch.failed")
    assert event.payload["code"] == "pipeline_failed"


def test_a_sure_finding_is_knowledge_until_it_is_compensated(fleet: Fleet) -> None:
    """V-09: it is stored in the transaction of the diagnosis, and deleted by the compensation."""
    sag = parsed("a.log", {"E2107": 40}, critical={"E2107": "BROWNOUT supply voltage 7.3 V"})
    batch_id = fleet.scattering("a.log")
    assert sag.features is not None
    fleet.finish(batch_id, "a.log", result=sag.features)
    run(steps.gather, fleet, batch_id)
    about = Wanted(text="brownout", error_codes=("E2107",), kinds=(precedents.KIND,))

    def known() -> list[str]:
        return [one.key for one in search(partial(fleet.database.call, fleet.tenant), about)]

    assert diagnose(fleet, batch_id)
    assert known() == [f"{batch_id}/power"]
    run(steps.compensate, fleet, batch_id, error=ERROR)
    assert known() == []


def test_nothing_is_compensated_after_the_pivot_of_a_batch(fleet: Fleet) -> None:
    """C-07: a publish whose answer was lost has still published."""
    batch_id = fleet.scattered("a.log")
    publish(fleet, batch_id)
    assert run(steps.compensate, fleet, batch_id, error=ERROR) == {"undone": False}
    assert fleet.batch(batch_id).status is BatchStatus.COMPLETED
    assert fleet.do(repository.find_report, batch_id) is not None
    assert "report.html" in artifacts_of(fleet, batch_id)
    assert events(fleet, "batch.failed") == []


def test_compensation_tolerates_what_never_happened(fleet: Fleet) -> None:
    """C-07: the step that failed may be the first."""
    batch_id = uploaded(fleet, "a.log")
    error = {"Error": "NothingParsed", "Cause": "not JSON"}
    assert run(steps.compensate, fleet, batch_id, error=error) == {"undone": True}
    batch = fleet.batch(batch_id)
    assert (batch.failure_code, batch.failure_detail) == (
        "nothing_parsed",
        "NothingParsed: not JSON",
    )


def test_a_cancelled_batch_stays_cancelled(fleet: Fleet) -> None:
    """V-03: the failure of its pipeline sends no second event."""
    batch_id = fleet.scattering("a.log")
    fleet.do(repository.fail, batch_id, "cancelled", "")
    run(steps.compensate, fleet, batch_id, error=ERROR)
    assert fleet.batch(batch_id).failure_code == "cancelled"
    assert events(fleet, "batch.failed") == []


def test_compensation_of_an_unknown_batch_is_visible(fleet: Fleet) -> None:
    """C-07: work that cannot be compensated is parked, and does not count as done."""
    with pytest.raises(NotFound):
        run(steps.compensate, fleet, uuid4(), error=ERROR)


# Progress of the workflow -------------------------------------------------------------------------


def told(api_key: str, batch_id: UUID) -> Progress:
    """Ask the API how far the workflow of a batch is."""
    path, headers = f"/workflows/{batch_id}/progress", {"X-Api-Key": api_key}
    answer = call(traces.handler, proxy_event("GET", path, headers=headers))
    assert answer.status == 200, answer.text
    return Progress.model_validate(answer.body)


def conducted(fleet: Fleet, batch_id: UUID, event_type: str) -> None:
    event = batch_event(event_type, fleet.tenant, batch_id, TRACE, timeout_seconds=60)
    answer = consumers.conduct(sqs_event(event.model_dump_json()), Context())
    assert answer == {"batchItemFailures": []}


def test_the_stages_of_a_pipeline_are_reported_one_by_one(
    fleet: Fleet, pipeline: str, api_key: str
) -> None:
    """G-14: `GET /workflows/{id}/progress` answers for a batch, and never goes back."""
    batch_id = uploaded(fleet, "a.log")
    seen: list[Progress] = []

    def look() -> None:
        seen.append(told(api_key, batch_id))

    conducted(fleet, batch_id, "batch.uploaded")
    look()
    run(steps.scatter, fleet, batch_id)
    look()
    fleet.finish(batch_id, "a.log")
    run(steps.gather, fleet, batch_id)
    look()
    assert diagnose(fleet, batch_id)
    look()
    run(steps.publish, fleet, batch_id)
    look()
    conducted(fleet, batch_id, "batch.uploaded")
    run(steps.scatter, fleet, batch_id)
    assert told(api_key, batch_id) == seen[-1], "a repeated step is late"
    assert [(progress.stage, progress.percentage) for progress in seen] == [
        ("uploaded", 5),
        ("scattering", 10),
        ("gathered", 60),
        ("diagnosing", 70),
        ("completed", 100),
    ]
    assert seen == sorted(seen, key=lambda progress: progress.updated_at)


@pytest.mark.parametrize("end", ["compensated", "cancelled"])
def test_a_pipeline_that_fails_has_come_to_its_end(
    fleet: Fleet, pipeline: str, api_key: str, end: str
) -> None:
    """G-14: the stage says how it ended, and no late step says otherwise."""
    batch_id = uploaded(fleet, "a.log")
    run(steps.scatter, fleet, batch_id)
    if end == "cancelled":
        fleet.do(repository.fail, batch_id, "cancelled", "")
        conducted(fleet, batch_id, "batch.cancelled")
    else:
        run(steps.compensate, fleet, batch_id, error=ERROR)
    fleet.do(stages.reached, batch_id, BatchStatus.GATHERING)
    progress = told(api_key, batch_id)
    assert (progress.stage, progress.percentage) == ("failed", 100)
