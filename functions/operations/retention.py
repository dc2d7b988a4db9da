"""Deletes old rows on a schedule."""

from collections.abc import Callable
from typing import Any

from operations.contexts import contexts
from skald.entrypoints.schedule import schedule
from skald.postgres import database
from skald.retention import RETENTIONS, delete_old


@schedule
def tidy(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Delete old rows of kernel and contexts, and return the count of each kind (C-09)."""
    return {**delete_old(database(), [*RETENTIONS, *contexts().retention], is_time_left)}
