"""Entries of the knowledge base as its clients write and read them (V-09)."""

from datetime import datetime

from pydantic import BaseModel, Field

from skald.knowledge.entries import Code, NewEntry, Prose, Words


class EntryContent(BaseModel):
    """What an entry says, and for which codes, platform and firmware; without, it holds for all.

    `firmware` is a pattern of versions as in SQL's LIKE: `v2.%`.
    """

    title: Words
    text: Prose
    error_codes: list[Code] = Field(default_factory=list, max_length=100)
    platform: Words | None = None
    firmware: Words | None = None
    source: Words | None = None

    def entry(self, kind: str, key: str) -> NewEntry:
        """Return it as the entry of that name."""
        fields = self.model_dump() | {"error_codes": tuple(self.error_codes)}
        return NewEntry(kind=kind, key=key, **fields)


class NewEntries(BaseModel):
    """Entries to be added together."""

    entries: list[NewEntry] = Field(min_length=1, max_length=100)


class EntrySummary(BaseModel):
    """A current entry without its text."""

    kind: str
    key: str
    version: int
    title: str
    error_codes: list[str]
    platform: str | None
    firmware: str | None
    source: str | None
    library: str | None
    valid_from: datetime
    is_shared: bool


class Version(BaseModel):
    """What an entry said from one time to another; the current one has no end."""

    version: int
    title: str
    text: str
    error_codes: list[str]
    platform: str | None
    firmware: str | None
    source: str | None
    valid_from: datetime
    valid_until: datetime | None


class Entry(BaseModel):
    """An entry in its versions, newest first."""

    kind: str
    key: str
    is_shared: bool
    is_current: bool
    versions: list[Version]


class Reembedding(BaseModel):
    """The embedder to use from now on: `local`, or the one this installation is set up with."""

    embedder: Words
