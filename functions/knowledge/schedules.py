"""The embedder: embeds waiting entries, outside of any transaction (V-09)."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from skald.entrypoints.schedule import schedule
from skald.knowledge.spaces import embed_missing, waiting
from skald.postgres import database, lookout
from skald.telemetry import logger

TENANTS = 1_000


@schedule
def embed_waiting(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Embed some entries of each waiting tenant in turn, while time is left."""
    with lookout().transaction(None) as tx:
        left = waiting(tx, TENANTS)
    tenants, embedded = len(left), 0
    while left and is_time_left():
        tenant_id = left.pop(0)
        bite = _embed(tenant_id)
        embedded += bite
        if bite:
            left.append(tenant_id)
    return {"tenants": tenants, "embedded": embedded}


def _embed(tenant_id: UUID) -> int:
    try:
        return embed_missing(database(), tenant_id)
    except Exception:
        # The others must not wait for this tenant; the next run tries it again.
        logger.exception("entries not embedded", extra={"embedding_tenant_id": str(tenant_id)})
        return 0
