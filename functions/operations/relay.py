"""The relay of the outbox, woken by its doorbell and by a schedule."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import cache
from typing import Any

from skald.access import tickets
from skald.aws import client
from skald.config import required
from skald.entrypoints.schedule import schedule
from skald.messaging import dead_letters, inbox, outbox
from skald.messaging.queues import SqsSender
from skald.messaging.relay import drain_through_backoff
from skald.postgres import database
from skald.retention import forget_threads
from skald.telemetry import metrics
from skald.traces import store

OUTBOX_RETENTION = store.KEPT
"""As long as spans: together they tell what caused what (W-08)."""
INBOX_RETENTION = timedelta(days=30)
ANSWERS_RETENTION = timedelta(days=1)
CALLS_RETENTION = timedelta(days=90)
THREADS_RETENTION = timedelta(days=30)
TICKETS_RETENTION = timedelta(0)
LETTERS_RETENTION = timedelta(days=90)


@schedule
def relay(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Send every event that is due (C-09)."""
    return asdict(drain_through_backoff(database(), _sender(), is_time_left=is_time_left))


@schedule
def tidy(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Measure the outbox, and delete in small bites what nobody will ask for again."""
    from skald.models.records import forget_answers, forget_calls  # the relay does without

    with database().transaction(None) as tx:
        health = outbox.health(tx)
    metrics.count("outbox_pending_count", health.pending)
    metrics.count("outbox_failed_count", health.failed)
    metrics.count("outbox_dead_tuples_count", health.dead_tuples)
    metrics.seconds("outbox_oldest_seconds", health.oldest_seconds)
    return health.model_dump() | {
        "published_deleted": _in_bites(outbox.forget, OUTBOX_RETENTION, is_time_left),
        "inbox_deleted": _in_bites(inbox.forget, INBOX_RETENTION, is_time_left),
        "answers_deleted": _in_bites(forget_answers, ANSWERS_RETENTION, is_time_left),
        "threads_deleted": _in_bites(forget_threads, THREADS_RETENTION, is_time_left),
        "calls_deleted": _in_bites(forget_calls, CALLS_RETENTION, is_time_left),
        "tickets_deleted": _in_bites(tickets.forget, TICKETS_RETENTION, is_time_left),
        "letters_deleted": _in_bites(dead_letters.forget, LETTERS_RETENTION, is_time_left),
    }


def _in_bites(
    forget: Callable[..., int], older_than: timedelta, is_time_left: Callable[[], bool]
) -> int:
    deleted = 0
    while is_time_left():
        with database().transaction(None) as tx:
            bite = forget(tx, older_than)
        if not bite:
            break
        deleted += bite
    return deleted


@cache
def _sender() -> SqsSender:
    return SqsSender(client("sqs"), json.loads(required("EVENT_ROUTES")))
