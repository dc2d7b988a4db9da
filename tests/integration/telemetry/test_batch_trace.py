"""G-09: the trace of a batch, from its completion over HTTP to the jobs of its first step."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import Context
from tests.integration.conftest import UPLOADS
from tests.integration.support import Client, sqs_event

from batches import consumers, steps
from skald.aws import client
from skald.messaging import Envelope, relay
from skald.postgres import Database
from skald.saga import execution
from skald.traces.reading import Node, find_trace


class Wire:
    """A queue that returns what the relay sends."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []

    def send(self, events: Sequence[Envelope]) -> dict[str, Any]:
        self.sent += events
        return {}


class Machines:
    """A fake of Step Functions that keeps what was started."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []

    class exceptions:  # noqa: N801  # as boto3 calls it
        ExecutionAlreadyExists = KeyError

    def start_execution(self, *, input: str, **_: str) -> dict[str, str]:
        self.started.append(json.loads(input))
        return {"executionArn": "arn:aws:states:::execution:batch_pipeline:batch"}


def test_a_batch_is_one_tree(
    api: Client,
    database: Database,
    relay_database: Database,
    tenant: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G-09: request, outbox, queue, consumer, workflow, step; the next commands are below it."""
    batch_id = api.open_batch()
    client("s3").put_object(Bucket=UPLOADS, Key=f"batches/{tenant}/{batch_id}/a.log", Body=b"x")
    assert api("POST", f"/batches/{batch_id}/files", {"name": "a.log", "size": 1}).status == 201
    completed = api("POST", f"/batches/{batch_id}/complete")
    assert completed.status == 202, completed.text
    batch_trace = completed.body["trace_id"]

    wire, machines = Wire(), Machines()
    relay.drain(relay_database, wire)
    [uploaded] = [event for event in wire.sent if event.target_id == batch_id]
    message = sqs_event(uploaded.model_dump_json())
    message["Records"][0]["attributes"] = {
        "SentTimestamp": "1",
        "ApproximateFirstReceiveTimestamp": "2",
    }
    monkeypatch.setattr(execution, "client", lambda _: machines)
    monkeypatch.setenv("BATCH_PIPELINE_ARN", "arn:aws:states:::stateMachine:batch_pipeline")
    consumers.conduct(message, Context())
    steps.scatter(machines.started[0], Context())
    relay.drain(relay_database, wire)

    spans = told(database, tenant, batch_trace)
    names = [(span.kind, span.name) for span in spans if span.kind not in ("http", "database")]
    assert names == [
        ("outbox", "batch.uploaded"),
        ("queue", "batch.uploaded"),
        ("consumer", "conduct"),
        ("workflow", "batch_pipeline"),
        ("step", "scatter"),
    ]
    request = told(database, tenant, completed.headers["x-trace-id"])[0]
    assert (request.kind, request.name) == ("http", "POST /batches/{batch_id}/complete")
    assert spans[names.index(("outbox", "batch.uploaded"))].trace_id == batch_trace
    # The relay sends what other tenants wait for, too.
    ours = [event for event in wire.sent if event.tenant_id == tenant]
    [job] = [event for event in ours if event.event_type == "file.parse"]
    assert (job.trace_id, job.parent_span_id) == (batch_trace, spans[-1].span_id)


def told(database: Database, tenant: UUID, trace_id: str) -> list[Node]:
    with database.transaction(tenant) as tx:
        trace = find_trace(tx, trace_id)
    assert trace is not None
    return trace.spans
