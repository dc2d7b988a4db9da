"""How a batch fails outside its pipeline: by the sweeper, or by who resolved its saga."""

from uuid import UUID

from batches import repository, stages
from batches.domain import Batch, BatchStatus, batch_event
from skald.messaging import outbox
from skald.postgres import Transaction
from skald.telemetry import trace


def give_up(tx: Transaction, batch: Batch, code: str, detail: str) -> None:
    """Fail a batch and tell so; one that has ended stays as it is."""
    if repository.fail(tx, batch.batch_id, code, detail):
        stages.reached(tx, batch.batch_id, BatchStatus.FAILED)
        with trace(batch.trace_id):
            event = batch_event(
                "batch.failed", tx.tenant_id, batch.batch_id, batch.trace_id, code=code
            )
            outbox.publish(tx, event)


def resolved(tx: Transaction, saga_id: str, note: str) -> None:
    """Let a batch end with its saga, which a person has taken for compensated (G-07, V-03)."""
    batch = repository.lock_batch(tx, UUID(saga_id))
    if batch is not None:
        give_up(tx, batch, "resolved_by_hand", note)
