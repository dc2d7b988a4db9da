"""Every function of the template handles its event from events/*.json, alone and repeated."""

import json
import re
from typing import Any
from uuid import UUID

import pytest
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import ROOT, Answer, Deployment, wait_for
from tests.e2e.payloads import EVENTS, payload


def functions() -> list[str]:
    template = (ROOT / "template.yaml").read_text()
    return re.findall(r"^  (\w+):\n    Type: AWS::Serverless::Function", template, re.M)


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_every_function_has_an_event() -> None:
    """C-06: there is an example event for each function of the template."""
    assert len(functions()) >= 15
    assert [name for name in functions() if not (EVENTS / f"{snake(name)}.json").exists()] == []


@pytest.mark.parametrize("function", ["Migrate", "Relay", "Sweep", "OperationsApi"])
def test_invoke_script(skald: Deployment, function: str) -> None:
    """C-06: `scripts/invoke FUNCTION events/x.json` prints the answer, and the log on stderr."""
    done = skald.run("invoke", function, str(EVENTS / f"{snake(function)}.json"))
    assert done.returncode == 0, done.stderr
    assert "REPORT RequestId" in done.stderr
    answer = json.loads(done.stdout)
    match function:
        case "Migrate":
            assert answer["applied"] == []
            assert {name for name, count in answer["library"].items() if count} == {"unchanged"}
        case "Relay":
            assert set(answer) == {"sent", "retried", "parked"}
        case "Sweep":
            assert set(answer) >= {"stuck", "repaired"}
        case _:
            assert answer["statusCode"] == 200
            assert json.loads(answer["body"]) == {"postgres": "ok", "redis": "ok"}


@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("Relay", "relay_scheduled"),
        ("MeasureOutbox", "measure_outbox"),
        ("Tidy", "tidy"),
        ("Reconcile", "reconcile"),
        ("EmbedWaiting", "embed_waiting"),
    ],
)
def test_schedules(skald: Deployment, function: str, event: str) -> None:
    """C-09, G-07: a scheduled function returns what it did, as counts."""
    answer = skald.invoke(function, json.loads((EVENTS / f"{event}.json").read_text()))
    assert answer.error is None, answer
    assert answer.payload
    assert all(isinstance(figure, int | float) for figure in answer.payload.values())


def test_operations_events(skald: Deployment, tenant: Tenant) -> None:
    """G-07: operators see no saga and no key of an inactive tenant, and nothing without a key."""
    nowhere = UUID(int=3)
    for function in ("TenantOperationsApi", "OperatorApi"):
        event = payload(snake(function), tenant.tenant_id, nowhere, key=tenant.api_key)
        assert skald.invoke(function, event).payload["statusCode"] == 404
        event = payload(snake(function), tenant.tenant_id, nowhere)
        assert skald.invoke(function, event).payload["statusCode"] == 401


def test_dead_letters_are_collected(skald: Deployment, tenant: Tenant) -> None:
    """V-12, Q-05: a message in a dead-letter queue becomes one letter of its tenant."""
    event = payload("collect_dead_letters", tenant.tenant_id, UUID(int=4))
    for _ in range(2):
        answer = skald.invoke("CollectDeadLetters", event).payload
        assert answer == {"batchItemFailures": []}
    assert flows.dead_letters(skald, tenant) == ["skald-batches-parse"]
    skald.send("DeadLetterQueue", json.loads(event["Records"][0]["body"]))
    wait_for("the letter", lambda: len(flows.dead_letters(skald, tenant)) == 2)


def test_api_event(skald: Deployment, tenant: Tenant) -> None:
    """V-01: the API's function opens a batch from a proxy event; without a key it does not."""
    anywhere = UUID(int=1)
    event = payload("batches_api", tenant.tenant_id, anywhere, key=tenant.api_key)
    answer = skald.invoke("BatchesApi", event).payload
    assert answer["statusCode"] == 201
    batch = json.loads(answer["body"])
    assert (batch["name"], batch["timeout_seconds"]) == ("night shift", 600)
    assert tenant.client.batch(batch["batch_id"])["status"] == "pending"
    stranger = payload("batches_api", tenant.tenant_id, anywhere)
    assert skald.invoke("BatchesApi", stranger).payload["statusCode"] == 401
    event = payload(
        "batches_api_complete", tenant.tenant_id, UUID(batch["batch_id"]), key=tenant.api_key
    )
    assert skald.invoke("BatchesApi", event).payload["statusCode"] == 409  # it has no files


def test_knowledge_event(skald: Deployment, tenant: Tenant) -> None:
    """V-09: the API's function stores a repeated put once; without a key it stores nothing."""
    event = payload("knowledge_api", tenant.tenant_id, UUID(int=1), key=tenant.api_key)
    for _ in range(2):
        answer = skald.invoke("KnowledgeApi", event).payload
        assert answer["statusCode"] == 200
        (version,) = json.loads(answer["body"])["versions"]
    assert (version["version"], version["title"]) == (1, "Brown-out")
    stranger = payload("knowledge_api", tenant.tenant_id, UUID(int=1))
    assert skald.invoke("KnowledgeApi", stranger).payload["statusCode"] == 401


@pytest.fixture
def uploaded(skald: Deployment, tenant: Tenant) -> UUID:
    """A batch of two files, `uploaded` without an event: the test runs its steps."""
    picture = b"\x89PNG\r\n\x1a\n" + bytes(60)
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(30, errors=2), "b.png": picture})
    skald.sql("update batches.batches set status = 'uploaded' where batch_id = %s", batch_id)
    return batch_id


def test_pipeline_by_hand(skald: Deployment, tenant: Tenant, uploaded: UUID) -> None:
    """V-03 to V-08, C-07: invoked one by one, each step twice, the functions work once.

    Their result is that of the state machine.
    """

    def twice(function: str) -> Any:
        event = payload(snake(function), tenant.tenant_id, uploaded)
        first, second = skald.invoke(function, event), skald.invoke(function, event)
        assert (first.error, second.error) == (None, None), (first, second)
        assert first.payload == second.payload
        return first.payload

    assert twice("Scatter") == {"files": 2}
    assert twice("AwaitParsing") == {}
    wait_for(
        "parsed files",
        lambda: tenant.client.batch(uploaded)["status"] == "scattered",
    )
    for task in flows.tasks(skald, uploaded).values():
        # The job again: it is done, and its token, for which nothing waits, causes no error.
        event = payload("parse_file", tenant.tenant_id, uploaded, file_id=task["task_id"])
        assert skald.invoke("ParseFile", event).payload == {"batchItemFailures": []}
        assert flows.tasks(skald, uploaded)["a.log"]["attempts"] == 1
    assert len(twice("Gather")["charts"]) > 0
    assert twice("Diagnose") == {"batchItemFailures": []}
    assert twice("Publish") == {"outcome": "partial"}
    report = tenant.client.report(uploaded)
    assert flows.events_by_file(report) == {"a.log": 30, "b.png": 0}
    assert twice("ForceGather") == {"given_up": 0}
    # After the pivot nothing is undone.
    assert twice("Compensate") == {"undone": False}
    assert tenant.client.report(uploaded) | {"chart_urls": 0} == report | {"chart_urls": 0}

    # A pipeline that starts now finds every step done and succeeds.
    conduct = payload("conduct", tenant.tenant_id, uploaded)
    for _ in range(2):
        assert skald.invoke("Conduct", conduct).payload == {"batchItemFailures": []}
    wait_for("wait of the pipeline", lambda: "AwaitParsing" in skald.states(uploaded))
    wait_for("end of the pipeline", lambda: skald.execution(uploaded)["status"] != "RUNNING")
    assert skald.execution(uploaded)["status"] == "SUCCEEDED"
    assert skald.executions(uploaded) == 1
    wait_for("its event", lambda: skald.events(uploaded, "batch.completed"))
    assert len({event["event_id"] for event in skald.events(uploaded, "batch.completed")}) == 1
    # The same batch with another input is another command.
    other = json.loads(
        json.dumps(conduct).replace('timeout_seconds\\": 600', 'timeout_seconds\\": 7')
    )
    assert other != conduct
    assert len(skald.invoke("Conduct", other).payload["batchItemFailures"]) == 1
    assert skald.invoke(
        "Conduct", payload("conduct_cancelled", tenant.tenant_id, uploaded)
    ).payload == {"batchItemFailures": []}


def test_compensation_by_hand(skald: Deployment, tenant: Tenant, uploaded: UUID) -> None:
    """V-06: compensation fails the batch, deletes its artifacts, and publishes one event."""
    event = payload("scatter", tenant.tenant_id, uploaded)
    assert skald.invoke("Scatter", event).error is None
    wait_for("parsed files", lambda: tenant.client.batch(uploaded)["status"] == "scattered")
    assert skald.stored("ArtifactsBucket", f"batches/{tenant.tenant_id}/{uploaded}/")
    trace_id = tenant.client.batch(uploaded)["trace_id"]
    undo = payload("compensate", tenant.tenant_id, uploaded, trace_id=trace_id)
    for _ in range(2):
        assert skald.invoke("Compensate", undo).payload == {"undone": True}
    batch = tenant.client.batch(uploaded)
    assert (batch["status"], batch["failure_code"]) == ("failed", "nothing_parsed")
    assert "none of 2 files could be parsed" in batch["failure_detail"]
    assert skald.stored("ArtifactsBucket", f"batches/{tenant.tenant_id}/{uploaded}/") == []
    flows.assert_told_once(skald, batch, "batch.failed")
    late = skald.invoke("Gather", payload("gather", tenant.tenant_id, uploaded))
    assert late.error
    assert late.payload["errorType"] == "IllegalTransition"


def test_steps_refuse_what_is_not_there(skald: Deployment, tenant: Tenant) -> None:
    """C-07: a step for an unknown batch fails by name, a malformed job fails alone."""
    nowhere = UUID(int=2)
    answer: Answer = skald.invoke("Scatter", payload("scatter", tenant.tenant_id, nowhere))
    assert answer.payload["errorType"] == "IllegalTransition"
    event = payload("parse_file", tenant.tenant_id, nowhere)
    assert skald.invoke("ParseFile", event).payload == {"batchItemFailures": []}
    event["Records"].append(event["Records"][0] | {"messageId": "broken", "body": "{"})
    failed = skald.invoke("ParseFile", event).payload
    assert failed == {"batchItemFailures": [{"itemIdentifier": "broken"}]}
    arrived = payload("file_arrived", tenant.tenant_id, nowhere)
    assert skald.invoke("FileArrived", arrived).error is None
    assert skald.sql("select 1 from batches.files where batch_id = %s", nowhere) == []
