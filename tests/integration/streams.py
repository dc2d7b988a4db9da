"""The stream of a diagnosis as a client reads it."""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.integration.support import Answer, Client


@dataclass(frozen=True)
class Told:
    """One event as a client reads it."""

    id: str
    name: str
    data: dict[str, Any]


def ask(api: Client, batch_id: UUID, since: str | None = None, wait: float = 0) -> Answer:
    headers = {"Last-Event-ID": since} if since else {}
    path = f"/batches/{batch_id}/diagnosis/stream"
    return api("GET", path, query={"wait": str(wait)}, headers=headers)


def read(answer: Answer) -> list[Told]:
    """Read the events of an answer."""
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    found = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "id" in fields:
            found.append(Told(fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def watch(api: Client, batch_id: UUID) -> list[Told]:
    """Follow the stream to its end, as an EventSource does."""
    told: list[Told] = []
    while (answer := ask(api, batch_id, told[-1].id if told else None)).status == 200:
        told += read(answer)
    assert answer.status == 204
    return told


@dataclass
class Transcript:
    """A client that follows the description of the route, and the text that it shows."""

    finished: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    _run: str = ""

    def hear(self, event: Told) -> None:
        run = event.data.get("run", "")
        if event.name == "began" or not self._run:
            self._run = run  # the beginning of the run may be lost
        if event.name not in ("began", "ended") and run == self._run:
            self._note(event.name, **event.data)

    def _note(self, name: str, node: str, text: str = "", summary: str = "", **_: str) -> None:
        if name == "entered":
            self.text[node] = ""
            self.finished.pop(node, None)
        elif name == "said":
            self.text[node] = self.text.get(node, "") + text
        else:
            self.finished[node] = summary


def transcript(told: list[Told]) -> Transcript:
    """Return what a client shows after these events."""
    heard = Transcript()
    for event in told:
        heard.hear(event)
    return heard
