"""Entries of the knowledge base as its clients write and read them (V-09)."""

from datetime import datetime

from pydantic import BaseModel, Field

from skald.knowledge.entries import NewEntry, Words


class NewEntries(BaseModel):
    """Entries to add together."""

    entries: list[NewEntry] = Field(
        min_length=1, max_length=100, description="The entries; all are stored or none."
    )


class EntrySummary(BaseModel):
    """A current entry without its text."""

    kind: str = Field(description="The kind of entry, as `error_code` or `note`.")
    key: str = Field(description="The name of the entry among its kind.")
    version: int = Field(description="The version, from 1.")
    title: str = Field(description="The title.")
    error_codes: list[str] = Field(description="Error codes that the entry explains.")
    platform: str | None = Field(description="The platform it holds for; null for all.")
    firmware: str | None = Field(
        description="A pattern of firmware versions it holds for; null for all."
    )
    source: str | None = Field(description="Where the knowledge comes from.")
    library: str | None = Field(description="The library that loaded it.")
    valid_from: datetime = Field(description="Since when it says this.")
    is_shared: bool = Field(description="Whether all tenants see it.")


class Version(BaseModel):
    """What an entry said during a time."""

    version: int = Field(description="The version, from 1.")
    title: str = Field(description="The title.")
    text: str = Field(description="The text.")
    error_codes: list[str] = Field(description="Error codes that it explained.")
    platform: str | None = Field(description="The platform it held for; null for all.")
    firmware: str | None = Field(
        description="A pattern of firmware versions it held for; null for all."
    )
    source: str | None = Field(description="Where the knowledge came from.")
    valid_from: datetime = Field(description="Since when it said this.")
    valid_until: datetime | None = Field(description="Until when; null for the current version.")


class Entry(BaseModel):
    """An entry with all its versions."""

    kind: str = Field(description="The kind of entry, as `error_code` or `note`.")
    key: str = Field(description="The name of the entry among its kind.")
    is_shared: bool = Field(description="Whether all tenants see it.")
    is_current: bool = Field(description="Whether searches find it.")
    versions: list[Version] = Field(description="Its versions, newest first.")


class Reembedding(BaseModel):
    """The embedder to use from now on."""

    embedder: Words = Field(
        description="`local`, or the embedder that this installation is set up with."
    )
