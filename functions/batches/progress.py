"""Live progress as server-sent events, each call telling what is new (V-11)."""

import json
import time
from uuid import UUID

from batches import repository
from batches.domain import Progress
from skald.state.postgres import Database

POLL_SECONDS = 0.25
RECONNECT_MILLISECONDS = 500


def stream(
    database: Database, tenant_id: UUID, batch_id: UUID, since: int, wait_seconds: float
) -> str | None:
    """Return the events after version `since`, waiting for the first of them.

    Empty when nothing came, or nothing can come any more; None for an unknown batch.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        with database.transaction(tenant_id) as tx:
            batch = repository.find_batch(tx, batch_id)
            if batch is None:
                return None
            news = repository.progress_since(tx, batch_id, since)
        if news:
            return f"retry: {RECONNECT_MILLISECONDS}\n\n" + "".join(map(_event, news))
        if batch.status.is_final:
            return ""
        if time.monotonic() >= deadline:
            return ": nothing new\n\n"
        time.sleep(POLL_SECONDS)


def _event(progress: Progress) -> str:
    data = progress.model_dump(mode="json") | {"percentage": progress.percentage}
    return f"id: {progress.version}\nevent: progress\ndata: {json.dumps(data)}\n\n"
