"""The relay of the outbox, woken by its doorbell and by a schedule."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

from skald.aws import client
from skald.config import required
from skald.entrypoints.schedule import schedule
from skald.messaging.queues import SqsSender
from skald.messaging.relay import drain
from skald.state.postgres import database


@schedule
def relay(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Send every event that is due (C-09)."""
    return asdict(drain(database(), _sender(), is_time_left=is_time_left))


@cache
def _sender() -> SqsSender:
    return SqsSender(client("sqs"), json.loads(required("EVENT_ROUTES")))
