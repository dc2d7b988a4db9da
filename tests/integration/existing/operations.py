"""Running and parked sagas, with their progress, events and dead letters."""

from uuid import uuid4

from psycopg.types.json import Jsonb
from tests.integration.existing.world import Ids, World
from tests.integration.support import Client, event

from skald.messaging import outbox
from skald.postgres import Transaction
from skald.saga import SagaLog, SagaStatus
from skald.saga.progress import WorkflowProgress
from skald.valkey import valkey


def existing(world: World) -> list[Ids]:
    """Return the ids of a running saga and of a parked one, with what belongs to each."""
    made = []
    for number in range(2):
        with world.database.transaction(world.tenant) as tx:
            made.append(_told_of(tx, str(uuid4()), number))
        made[-1] |= _answered(Client(world.api_key), number)
    world.admin.execute(
        "update skald.outbox set status = 'failed' where tenant_id = %s", (world.tenant,)
    )
    return made


def _answered(api: Client, number: int) -> Ids:
    """An idempotency key under which an answer is stored, and the trace of that request."""
    key = f"order-{number}"
    answer = api("POST", "/batches", {"name": "again"}, headers={"Idempotency-Key": key})
    assert answer.status == 201
    return {"key": key, "trace_id": answer.headers["x-trace-id"]}


def _told_of(tx: Transaction, workflow_id: str, number: int) -> Ids:
    """A saga with its progress, its event, and a dead letter of the event."""
    happened = event(tx.tenant_id, number=number, correlation_id=workflow_id)
    log = SagaLog(tx, workflow_id)
    log.begin("fuzz", ["one", "two"], happened)
    if number % 2:
        log.move(SagaStatus.MANUAL_INTERVENTION, SagaStatus.RUNNING)
    WorkflowProgress(valkey()).report(tx, workflow_id, "one", 50, files=number)
    outbox.publish(tx, happened)
    letter = tx.value(
        "insert into skald.dead_letters (tenant_id, event_id, source, envelope, error)"
        " values (%s, %s, 'outbox', %s, 'no such queue') returning dead_letter_id",
        (tx.tenant_id, happened.event_id, Jsonb(happened.model_dump(mode="json"))),
    )
    return {
        "saga_id": workflow_id,
        "workflow_id": workflow_id,
        "event_id": str(happened.event_id),
        "dead_letter_id": letter,
    }
