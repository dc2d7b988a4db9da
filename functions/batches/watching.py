"""People watch the agents think: what a run tells goes to Redis, its outcome is PostgreSQL's.

Each run of the agents (there is a second one after a crash) tells that it `began`, then of each
node that it `entered`, what it `said` and that it `finished`; at last one event tells that it
`ended`. A node that is entered again begins anew: what it said before is void. So is what an
earlier run, which may only have slept, tells after a later one began. `ended` has the whole path,
so that nobody needs the events before it, and Redis may lose them.
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
"""The id of `ended`: nothing comes after it."""
PIECE_CHARACTERS = 1_000
PIECE_SECONDS = 0.5

type Told = tuple[str, dict[str, str]]
"""Name and data of something that is told."""


class Pieces:
    """What a model writes token by token, joined to pieces of some size or some age."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._text = ""
        self._begun = 0.0

    def add(self, text: str) -> list[str]:
        """Add a token; returns the pieces that are due, mostly none."""
        if not self._text:
            self._begun = self._clock()
        self._text += text
        is_old = self._clock() - self._begun >= PIECE_SECONDS
        return self.rest() if is_old or len(self._text) >= PIECE_CHARACTERS else []

    def rest(self) -> list[str]:
        """Return what is left."""
        text, self._text = self._text, ""
        return [
            text[start : start + PIECE_CHARACTERS]
            for start in range(0, len(text), PIECE_CHARACTERS)
        ]


class RedisWatcher:
    """One run of the agents, told to all who watch; a `batches.agents.Watcher` for any thread."""

    def __init__(self, tenant_id: UUID, batch_id: UUID) -> None:
        self._feed = _feed(tenant_id, batch_id)
        self._run: str | None = None
        self._pieces: defaultdict[str, Pieces] = defaultdict(Pieces)
        self._lock = Lock()

    def entered(self, node: str) -> None:
        with self._lock:
            self._pieces.pop(node, None)
            self._tell([("entered", {"node": node})])

    def said(self, node: str, text: str) -> None:
        with self._lock:
            self._tell(_said(node, self._pieces[node].add(text)))

    def finished(self, node: str, summary: str) -> None:
        with self._lock:
            end = {"node": node, "summary": summary[:PIECE_CHARACTERS]}
            self._tell([*_said(node, self._pieces[node].rest()), ("finished", end)])

    def _tell(self, items: list[Told]) -> None:
        if items and self._run is None:
            self._run = self._feed.append([("began", {})])
        if items and self._run is not None:
            self._feed.append([(name, {"run": self._run} | data) for name, data in items])


def news(database: Database, tenant_id: UUID, batch_id: UUID, since: str) -> News:
    """Return what was told after the event `since`; raises `NotFound` for an unknown batch."""
    with database.transaction(tenant_id) as tx:
        batch = repository.find_batch(tx, batch_id)
        if batch is None:
            raise NotFound("no such batch")
        document = repository.find_diagnosis(tx, batch_id)
    is_over = document is not None or LIFE.is_final(batch.status)
    if since == OVER:
        return News([], is_over)
    # Read after the outcome: what the agents told was told before that.
    events = [_event(item) for item in _feed(tenant_id, batch_id).since(since)]
    is_all = is_over and len(events) < PAGE
    return News([*events, _ended(batch, document)] if is_all else events, is_over)


def _said(node: str, pieces: list[str]) -> list[Told]:
    return [("said", {"node": node, "text": piece}) for piece in pieces]


def _event(item: Item) -> Event:
    return Event(item.id, item.name, {"run": item.id} | item.data)


def _ended(batch: Batch, document: dict[str, Any] | None) -> Event:
    outcome: dict[str, Any] = {"status": batch.status, "failure": batch.failure_detail}
    if document is not None:
        # It brings all the rules along, which no other route needs.
        from batches.analysis.findings import Diagnosis

        diagnosis = Diagnosis.model_validate(document)
        outcome |= diagnosis.model_dump(mode="json", include={"method", "summary", "path"})
        outcome["findings"] = len(diagnosis.findings)
    return Event(OVER, "ended", outcome)


def _feed(tenant_id: UUID, batch_id: UUID) -> Feed:
    return Feed(valkey(), f"batch:{tenant_id}:{batch_id}:diagnosis")
