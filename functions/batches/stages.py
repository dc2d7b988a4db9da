"""The stages of the pipeline, as `GET /workflows/{id}/progress` returns them (G-14)."""

from uuid import UUID

from batches.domain import PERCENTAGES, BatchStatus
from skald.postgres import Transaction
from skald.saga.progress import WorkflowProgress
from skald.valkey import valkey


def reached(tx: Transaction, batch_id: UUID, stage: BatchStatus) -> None:
    """Report the stage that the pipeline of a batch has reached; a late report changes nothing."""
    WorkflowProgress(valkey()).report(tx, str(batch_id), stage, PERCENTAGES[stage])
