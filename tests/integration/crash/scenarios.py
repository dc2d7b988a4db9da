"""What the killed processes do: a request, a round of a relay, deliveries, sagas, batches.

Each scenario may run again after its process died, as clients, schedules, queues and reconcilers
do.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel
from tests.conftest import Context
from tests.integration.crash.aws import FolderAws
from tests.integration.crash.pipeline import STAGES, Stage
from tests.integration.crash.tracer import Death, Tracer
from tests.integration.idempotency import orders
from tests.integration.support import event, proxy_event, sqs_event

from operations import relay
from skald.aws import client
from skald.command import Command
from skald.entrypoints.consumer import consumer
from skald.entrypoints.queued import Heartbeat, queued_step
from skald.entrypoints.step import Result
from skald.messaging import Envelope, inbox, outbox
from skald.postgres import Transaction, database
from skald.saga.coordinator import Saga, Step, run

QUEUES = ("skald-operations-events", "skald-batches-parse")
TASKS = "tasks"
STEPS = ("reserve", "charge", "ship")
SAGA_ID = "order-1"


@dataclass(frozen=True)
class Life:
    """The input of a process; `folder` is AWS, `batch` the batch of a stage."""

    environment: dict[str, str]
    folder: Path
    tenant: UUID
    api_key: str
    batch: UUID


def live(scenario: str, life: Life, death: Death | None, parent: Connection) -> None:
    """Run a scenario in this process and report its boundaries and its answer to the parent."""
    os.environ.update(life.environment)
    tracer = Tracer(parent.send, death)
    tracer.watch(FolderAws(life.folder))
    SCENARIOS[scenario](life, tracer, parent)


# HTTP ---------------------------------------------------------------------------------------------


def _order(path: str, life: Life, tracer: Tracer, client: Connection) -> None:
    headers = {
        "X-Api-Key": life.api_key,
        "Content-Type": "application/json",
        "Idempotency-Key": "k",
    }
    order = proxy_event("POST", path, body='{"article": "lamp"}', headers=headers)
    answer = orders.api.handler(order, Context())
    tracer.cross("answer", lambda: client.send(answer))


# Outbox and queue ---------------------------------------------------------------------------------


def _relay(*_: object) -> None:
    relay.relay({}, Context())


def _mark(tx: Transaction, name: str) -> None:
    """Leave one more row at each run. Its id is random, so a repeated effect is visible."""
    outbox.publish(tx, event(tx.tenant_id, event_id=uuid4(), event_type=name))


@consumer
def _take(envelope: Envelope) -> None:
    with database().transaction(envelope.tenant_id) as tx:
        if inbox.accept(tx, envelope, "take"):
            _mark(tx, "event.taken")


def _deliver(*_: object) -> None:
    """Deliver the messages of the queues to their consumer, as an event source mapping does."""
    for queue in QUEUES:
        while messages := client("sqs").receive_message(QueueUrl=queue)["Messages"]:
            answer = _take(sqs_event(*(message["Body"] for message in messages)), Context())
            assert answer == {"batchItemFailures": []}
            for message in messages:
                client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


# Queued step --------------------------------------------------------------------------------------


def _judge(_: Command, heartbeat: Heartbeat) -> str:
    client("s3").put_object(Bucket="world", Key="judgement")
    assert heartbeat()
    return "guilty"


@queued_step(_judge)
def _sentence(_: Command, tx: Transaction, judgement: str) -> Result:
    _mark(tx, "sentence.passed")
    return {"judgement": judgement}


def _deliver_queued_task(*_: object) -> None:
    """Deliver the message of a queued step, as an event source mapping does."""
    for message in client("sqs").receive_message(QueueUrl=TASKS)["Messages"]:
        delivered = sqs_event(message["Body"])
        assert _sentence(delivered, Context()) == {"batchItemFailures": []}
        client("sqs").delete_message(QueueUrl=TASKS, ReceiptHandle=message["ReceiptHandle"])


# Sagas --------------------------------------------------------------------------------------------


class _Order(BaseModel):
    """A command without content."""


def _saga(failing: str | None) -> Saga[_Order]:
    return Saga("order", _Order, [_step(name, name == failing) for name in STEPS])


def _step(name: str, fails: bool) -> Step[_Order]:
    def effect(tx: Transaction, _: _Order) -> dict[str, Any]:
        _mark(tx, f"{name}.done")
        if fails:
            raise ZeroDivisionError("told to fail")
        return {}

    def compensation(tx: Transaction, _: _Order) -> None:
        _mark(tx, f"{name}.undone")

    def work(_: _Order) -> None:
        client("s3").put_object(Bucket="world", Key=name)

    def undo(_: _Order) -> None:
        client("s3").delete_object(Bucket="world", Key=name)

    return Step(name, effect, compensation, work, undo)


def _complete(life: Life, *_: object) -> None:
    run(database(), _saga(failing=None), life.tenant, SAGA_ID, _Order())


def _compensate(life: Life, *_: object) -> None:
    run(database(), _saga(failing="ship"), life.tenant, SAGA_ID, _Order())


# Batches ------------------------------------------------------------------------------------------


def _staged(stage: Stage) -> Callable[[Life, Tracer, Connection], None]:
    return lambda life, *_: stage.run(life.tenant, life.batch)


SCENARIOS: dict[str, Callable[[Life, Tracer, Connection], None]] = {
    "request": partial(_order, orders.Way.paths[False]),
    "rows_first": partial(_order, orders.Way.paths[True]),
    "relay": _relay,
    "delivery": _deliver,
    "queued_task": _deliver_queued_task,
    "saga": _complete,
    "compensation": _compensate,
    **{name: _staged(stage) for name, stage in STAGES.items()},
}
