"""Property 10: one trace id from the request to the last step and in every log line."""

import io
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Context
from tests.integration.support import call, proxy_event, sqs_event

from skald.command import Command
from skald.entrypoints.consumer import consumer
from skald.entrypoints.http import Api, Tx
from skald.entrypoints.step import Result, step
from skald.messaging import Envelope, outbox, relay
from skald.postgres import Database, Transaction
from skald.telemetry import Kind, logger, span, workflow_span_id
from skald.traces.reading import find_trace

executions: list[dict[str, Any]] = []
api = Api()


@api.route("POST", "/exams", status=201)
def submit(tx: Tx) -> dict[str, str]:
    """Accept an exam."""
    logger.info("submitted")
    envelope = Envelope(
        event_id=uuid4(),
        event_type="exam.submitted",
        tenant_id=tx.tenant_id,
        target_id="e1",
        target_type="exam",
    )
    outbox.publish(tx, envelope, aggregate=str(envelope.event_id))
    return {"event_id": str(envelope.event_id)}


@consumer
def begin(envelope: Envelope) -> None:
    """Start the workflow, with the input that Step Functions passes."""
    logger.info("begun")
    saga_id = str(envelope.event_id)
    with span(Kind.WORKFLOW, "grading", span_id=workflow_span_id(saga_id)):
        executions.append(
            {
                "saga_id": saga_id,
                "tenant_id": str(envelope.tenant_id),
                "trace_id": envelope.trace_id,
            }
        )


@step
def grade(_: Command, __: Transaction) -> Result:
    """Run the agent."""
    with span(Kind.AGENT_NODE, "judge"):
        logger.info("judged")
    return {}


class Wire:
    """A queue that returns what the relay sends."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send(self, events: Any) -> dict[str, Any]:
        self.bodies += [event.model_dump_json() for event in events]
        return {}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The lines that are logged."""
    stream = io.StringIO()
    handler: Any = logger.registered_handler
    before = handler.setStream(stream)
    yield stream
    handler.setStream(before)


@given(
    parent=st.none() | st.integers(1, 2**64 - 1),
    steps=st.integers(1, 3),
    deliveries=st.integers(1, 2),
)
def test_one_trace_id_everywhere(
    database: Database,
    relay_database: Database,
    api_key: str,
    tenant: UUID,
    log: io.StringIO,
    parent: int | None,
    steps: int,
    deliveries: int,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 10: 追踪标识传递完整性**
    **验证: 需求 5.1, 5.2, 5.3**
    """
    log.seek(0)
    log.truncate()
    executions.clear()
    headers = {"X-Api-Key": api_key}
    callers = uuid4().hex
    if parent:
        headers["traceparent"] = f"00-{callers}-{parent:016x}-01"
    submitted = call(api.handler, proxy_event("POST", "/exams", headers=headers))
    trace_id = submitted.headers["x-trace-id"]
    assert (trace_id == callers) == (parent is not None)

    wire = Wire()
    relay.drain(relay_database, wire)
    # Other tests leave events in the outbox too.
    message = sqs_event(*(body for body in wire.bodies if submitted.body["event_id"] in body))
    for record in message["Records"]:
        record["attributes"] = {"SentTimestamp": "1", "ApproximateFirstReceiveTimestamp": "2"}
    for _ in range(deliveries):
        begin(message, Context())
    for _ in range(steps):
        grade(executions[0], Context())

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [
        line["trace_id"] for line in lines if line["message"] in ("submitted", "begun", "judged")
    ]
    assert set(told) == {trace_id}
    assert len(told) == 1 + deliveries + 1  # a step that is retried works once
    with database.transaction(tenant) as tx:
        trace = find_trace(tx, trace_id)
    assert trace is not None
    kinds = [node.kind for node in trace.spans]
    assert kinds[:4] == ["http", "outbox", "queue", "consumer"]
    assert kinds.count("consumer") == deliveries
    assert kinds.count("step") == steps
    assert kinds.count("agent_node") == kinds.count("workflow") == 1
    # One tree: every span but the request's is one level below some earlier span.
    assert [node.depth for node in trace.spans].count(0) == 1
    assert all(after.depth <= before.depth + 1 for before, after in pairwise(trace.spans))
