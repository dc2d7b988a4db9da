"""Streams the progress of the agents to people: events are in Redis, the outcome in PostgreSQL.

After a crash there is a second run of the agents. Each run writes one event `began`, and for each
node the events `entered`, `said` (several) and `finished`. The last event of the stream is `ended`.
If a run enters a node again, the earlier `said` events of that node are void. A run that was only
asleep may write events after a later run began; those events are void, too. `ended` contains the
whole reasoning path, so Redis may lose all events before it.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from threading import Lock
from typing import Any
from uuid import UUID

from batches import repository
from batches.domain import LIFE, Batch
from skald.entrypoints.sse import Event, News
from skald.errors import NotFound
from skald.postgres import Database
from skald.valkey import valkey
from skald.valkey.feed import PAGE, Feed, Item

OVER = "over"
"""The id of `ended`, which is the last event."""
PIECE_CHARACTERS = 1_000
PIECE_SECONDS = 0.5

type NamedData = tuple[str, dict[str, str]]
"""The name and the data of an event."""


class Pieces:
    """Joins the tokens of a model to pieces.

    A piece is complete at `PIECE_CHARACTERS` characters, or `PIECE_SECONDS` after its first token.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._text = ""
        self._begun = 0.0

    def add(self, text: str) -> list[str]:
        """Add a token; return the pieces that are complete, usually none."""
        if not self._text:
            self._begun = self._clock()
        self._text += text
        is_old = self._clock() - self._begun >= PIECE_SECONDS
        return self.rest() if is_old or len(self._text) >= PIECE_CHARACTERS else []

    def rest(self) -> list[str]:
        """Return the remaining text as pieces."""
        text, self._text = self._text, ""
        return [
            text[start : start + PIECE_CHARACTERS]
            for start in range(0, len(text), PIECE_CHARACTERS)
        ]


class RedisWatcher:
    """Writes the events of one run of the agents to Redis.

    It is a thread-safe `batches.agents.Watcher`.
    """

    def __init__(self, tenant_id: UUID, batch_id: UUID) -> None:
        self._feed = _feed(tenant_id, batch_id)
        self._run: str | None = None
        self._pieces: defaultdict[str, Pieces] = defaultdict(Pieces)
        self._lock = Lock()

    def entered(self, node: str) -> None:
        with self._lock:
            self._pieces.pop(node, None)
            self._append([("entered", {"node": node})])

    def said(self, node: str, text: str) -> None:
        with self._lock:
            self._append(_said(node, self._pieces[node].add(text)))

    def finished(self, node: str, summary: str) -> None:
        with self._lock:
            end = {"node": node, "summary": summary[:PIECE_CHARACTERS]}
            self._append([*_said(node, self._pieces[node].rest()), ("finished", end)])

    def _append(self, items: list[NamedData]) -> None:
        if items and self._run is None:
            self._run = self._feed.append([("began", {})])
        if items and self._run is not None:
            self._feed.append([(name, {"run": self._run} | data) for name, data in items])


def news(database: Database, tenant_id: UUID, batch_id: UUID, since: str) -> News:
    """Return the events after the event `since`; raises `NotFound` for an unknown batch."""
    with database.transaction(tenant_id) as tx:
        batch = repository.find_batch(tx, batch_id)
        if batch is None:
            raise NotFound("no such batch")
        document = repository.find_diagnosis(tx, batch_id)
    is_over = document is not None or LIFE.is_final(batch.status)
    if since == OVER:
        return News([], is_over)
    # The events are read after the outcome. The agents write all events before their outcome, so
    # with an outcome none is missing here.
    events = [_event(item) for item in _feed(tenant_id, batch_id).since(since)]
    is_all = is_over and len(events) < PAGE
    return News([*events, _ended(batch, document)] if is_all else events, is_over)


def _said(node: str, pieces: list[str]) -> list[NamedData]:
    return [("said", {"node": node, "text": piece}) for piece in pieces]


def _event(item: Item) -> Event:
    return Event(item.id, item.name, {"run": item.id} | item.data)


def _ended(batch: Batch, document: dict[str, Any] | None) -> Event:
    outcome: dict[str, Any] = {"status": batch.status, "failure": batch.failure_detail}
    if document is not None:
        # This import loads all rules, which no other route needs.
        from batches.analysis.findings import Diagnosis

        diagnosis = Diagnosis.model_validate(document)
        outcome |= diagnosis.model_dump(mode="json", include={"method", "summary", "path"})
        outcome["findings"] = len(diagnosis.findings)
    return Event(OVER, "ended", outcome)


def _feed(tenant_id: UUID, batch_id: UUID) -> Feed:
    return Feed(valkey(), f"batch:{tenant_id}:{batch_id}:diagnosis")
