"""Server-sent events without an open connection: each answer holds what is new (V-11)."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

MEDIA_TYPE = "text/event-stream"
POLL_SECONDS = 0.25
RECONNECT_MILLISECONDS = 500

Wait = Annotated[float, Query(ge=0, le=20, description="Seconds to wait for news.")]
"""How long a route may wait before it answers that there is nothing new."""


class Event(NamedTuple):
    """One event. A client sends the id of its last event with the next request."""

    id: str | int
    name: str
    data: Mapping[str, Any]

    def __str__(self) -> str:
        return f"id: {self.id}\nevent: {self.name}\ndata: {json.dumps(self.data)}\n\n"


class News(NamedTuple):
    """What is new, and whether no more can come."""

    events: Sequence[Event]
    is_over: bool


def respond(look: Callable[[], News], wait_seconds: float) -> Response[str]:
    """Return the events that `look` finds, and wait for the first of them.

    Answers 204 after the last event; an EventSource then stops to reconnect.
    """
    body = _told(look, wait_seconds)
    return Response(
        status_code=200 if body else 204,
        content_type=MEDIA_TYPE,
        # Pages of any origin may read it, because a ticket gives access, never a cookie.
        headers={"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"},
        body=body,
    )


def _told(look: Callable[[], News], wait_seconds: float) -> str:
    deadline = time.monotonic() + wait_seconds
    while True:
        events, is_over = look()
        if events:
            return f"retry: {RECONNECT_MILLISECONDS}\n\n" + "".join(map(str, events))
        if is_over:
            return ""
        if time.monotonic() >= deadline:
            return ": nothing new\n\n"
        time.sleep(POLL_SECONDS)
