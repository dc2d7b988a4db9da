"""Deletes rows that are no longer kept, on a schedule."""

from collections.abc import Callable
from typing import Any

from skald.entrypoints.schedule import schedule
from skald.postgres import database
from skald.retention import RETENTIONS, delete_old


@schedule
def tidy(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Delete old rows while time is left; returns how many of each kind."""
    return {**delete_old(database(), RETENTIONS, is_time_left)}
