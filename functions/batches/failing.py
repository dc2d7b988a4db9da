"""Failure of a batch outside its pipeline, for the sweeper and for a person who ends its saga."""

from uuid import UUID

from batches import repository, stages
from batches.domain import Batch, BatchStatus, batch_event
from skald.messaging import outbox
from skald.postgres import Transaction
from skald.telemetry import trace


def give_up(tx: Transaction, batch: Batch, code: str, detail: str) -> None:
    """Fail a batch and publish `batch.failed`; a batch that has ended does not change."""
    if repository.fail(tx, batch.batch_id, code, detail):
        stages.reached(tx, batch.batch_id, BatchStatus.FAILED)
        with trace(batch.trace_id):
            event = batch_event(
                "batch.failed", tx.tenant_id, batch.batch_id, batch.trace_id, code=code
            )
            outbox.publish(tx, event)


def resolved(tx: Transaction, saga_id: str, note: str) -> None:
    """Fail the batch of a saga that a person has marked as compensated (G-07, V-03)."""
    batch = repository.lock_batch(tx, UUID(saga_id))
    if batch is not None:
        give_up(tx, batch, "resolved_by_hand", note)
