"""Live progress: one event for every visible change of a batch (V-11)."""

from uuid import UUID

from batches import repository
from batches.domain import LIFE, BatchProgress
from skald.entrypoints.sse import Event, News
from skald.errors import NotFound
from skald.postgres import Database


def news(database: Database, tenant_id: UUID, batch_id: UUID, since: int) -> News:
    """Return the changes after version `since`; raises `NotFound` if the batch is unknown."""
    with database.transaction(tenant_id) as tx:
        batch = repository.find_batch(tx, batch_id)
        if batch is None:
            raise NotFound("no such batch")
        changes = repository.progress_since(tx, batch_id, since)
    return News([_event(change) for change in changes], LIFE.is_final(batch.status))


def _event(progress: BatchProgress) -> Event:
    data = progress.model_dump(mode="json") | {"percentage": progress.percentage}
    return Event(progress.version, "progress", data)
