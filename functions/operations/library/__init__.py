"""The shared library of error codes: one file for each rule of the diagnosis (V-09)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from skald.knowledge.embedders import embedder_named
from skald.knowledge.entries import Loaded, NewEntry
from skald.knowledge.spaces import spaces_of, start_reembedding
from skald.knowledge.store import SHARED, load
from skald.postgres import Database, Transaction

NAME = "error codes"
KIND = "error_code"


class Explanation(BaseModel):
    """A cause: its error codes, its signs, and what to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    title: str
    error_codes: tuple[str, ...]
    symptoms: str
    cause: str
    action: str

    def entry(self, subject: str) -> NewEntry:
        """Return an entry of the knowledge base with this content; `subject` is the file's name."""
        return NewEntry(
            key=f"{subject}/{self.key}",
            kind=KIND,
            title=self.title,
            text=f"{self.symptoms}\n\nCause: {self.cause}\n\nRecommended action: {self.action}",
            error_codes=self.error_codes,
            source=NAME,
        )


def entries() -> list[NewEntry]:
    """Return the whole library. Raises `ValidationError` for a malformed file."""
    return [entry for path in sorted(Path(__file__).parent.glob("*.json")) for entry in _read(path)]


def load_library(database: Database) -> Loaded:
    """Load the library into the shared entries. A repeated load changes nothing (V-09).

    `database` has the role of the migrator: no other role may write shared entries. A deployment
    must not need a model, so the entries are embedded locally unless an operator chooses otherwise.
    """
    with database.transaction(SHARED) as transaction:
        _open_space(transaction)
        return load(transaction, NAME, entries())


def _open_space(transaction: Transaction) -> None:
    if not spaces_of(transaction):
        start_reembedding(transaction, embedder_named("local"))


def _read(path: Path) -> Iterator[NewEntry]:
    explanations: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    for explanation in explanations:
        yield Explanation.model_validate(explanation).entry(path.stem)
