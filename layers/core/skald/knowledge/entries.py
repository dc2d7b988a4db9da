"""Entries of the knowledge base, as they are stored and found."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

type Code = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
type Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
type Prose = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"^[^\x00]+$")]


class EntryContent(BaseModel):
    """The content of an entry."""

    model_config = ConfigDict(frozen=True)

    title: Words = Field(description="The title.")
    text: Prose = Field(description="The text that is searched and shown.")
    error_codes: tuple[Code, ...] = Field(
        default=(), max_length=100, description="Error codes that the entry explains."
    )
    platform: Words | None = Field(
        default=None, description="The platform it holds for; without one, all."
    )
    firmware: Words | None = Field(
        default=None,
        description="A pattern of firmware versions it holds for, as in SQL's LIKE: `v2.%`; "
        "without one, all.",
    )
    source: Words | None = Field(default=None, description="Where the knowledge comes from.")


class NewEntry(EntryContent):
    """An entry to store under `kind` and `key`. The same text again changes nothing."""

    key: Words = Field(description="The name of the entry among its kind.")
    kind: str = Field(
        pattern=r"^[a-z_]{1,50}$", description="The kind of entry, as `error_code` or `note`."
    )


class Loaded(BaseModel):
    """How many entries a load touched."""

    added: int = Field(default=0, description="New entries.")
    changed: int = Field(default=0, description="Entries with a new version.")
    unchanged: int = Field(default=0, description="Entries that said the same before.")
    retired: int = Field(default=0, description="Entries that searches no longer find.")


class Wanted(BaseModel):
    """What to look for. Filters apply before the ranking."""

    text: str = Field(min_length=1, max_length=4_000)
    error_codes: tuple[Code, ...] = ()
    platform: Words | None = None
    firmware: Words | None = None
    kinds: tuple[str, ...] = ()
    limit: int = Field(default=10, ge=1, le=100)


class Source(BaseModel):
    """An entry that a search found."""

    entry_id: UUID = Field(description="The id of the entry.")
    version: int = Field(description="Its version.")
    kind: str = Field(description="Its kind.")
    key: str = Field(description="Its name among its kind.")
    title: str = Field(description="The title.")
    text: str = Field(description="The text.")
    error_codes: list[str] = Field(description="Error codes that it explains.")
    source: str | None = Field(description="Where the knowledge comes from.")
    score: float = Field(description="How well it fits, for comparison within one search only.")
    found_by: list[Literal["meaning", "words"]] = Field(
        description="Whether meaning, words or both found it."
    )
    is_shared: bool = Field(description="Whether all tenants see it.")
