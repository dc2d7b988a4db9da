"""The relay of the outbox, started by doorbell and schedule, and the outbox metrics (C-09)."""

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

from operations.contexts import contexts
from skald.aws import client
from skald.config import required
from skald.entrypoints.schedule import schedule
from skald.messaging import outbox
from skald.messaging.queues import SqsSender
from skald.messaging.relay import drain_through_backoff
from skald.postgres import database
from skald.telemetry import metrics


@schedule
def relay(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Send every event that is due (C-09)."""
    return asdict(drain_through_backoff(database(), _sender(), is_time_left=is_time_left))


@schedule
def measure_outbox(_: Callable[[], bool]) -> dict[str, Any]:
    """Report how many events wait, how many are parked, and how long the oldest waits.

    This is a function of its own, because a relay that has stopped cannot report that.
    """
    with database().transaction(None) as tx:
        health = outbox.health(tx)
    metrics.count("outbox_pending_count", health.pending)
    metrics.count("outbox_failed_count", health.failed)
    metrics.count("outbox_dead_tuples_count", health.dead_tuples)
    metrics.seconds("outbox_oldest_seconds", health.oldest_seconds)
    return health.model_dump()


@cache
def _sender() -> SqsSender:
    prefix = required("QUEUE_URLS")
    routes = {event_type: prefix + queue for event_type, queue in contexts().routes.items()}
    return SqsSender(client("sqs"), routes)
