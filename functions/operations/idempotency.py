"""Forgets idempotency records whose time is over (W-02)."""

from collections.abc import Callable
from typing import Any

from skald.entrypoints.schedule import schedule
from skald.idempotency import records
from skald.postgres import database

BATCH_SIZE = 1_000


@schedule
def clean_up(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Delete expired records, each batch in a transaction of its own; returns how many."""
    deleted = 0
    while is_time_left():
        with database().transaction(None) as tx:
            batch = records.delete_expired(tx, BATCH_SIZE)
        deleted += batch
        if batch < BATCH_SIZE:
            break
    return {"deleted": deleted}
