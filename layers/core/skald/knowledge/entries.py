"""What goes into the knowledge base and what comes out."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

type Code = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
type Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
type Prose = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"^[^\x00]+$")]


class NewEntry(BaseModel):
    """An entry to be; `kind` and `key` name it, the same text again changes nothing.

    `firmware` is a pattern of versions as in SQL's LIKE (`v2.%`); without one, as without a
    platform, the entry holds for all.
    """

    model_config = ConfigDict(frozen=True)

    key: Words
    kind: str = Field(pattern=r"^[a-z_]{1,50}$")
    title: Words
    text: Prose
    error_codes: tuple[Code, ...] = Field(default=(), max_length=100)
    platform: Words | None = None
    firmware: Words | None = None
    source: Words | None = None


class Loaded(BaseModel):
    """How many entries a load touched, and how."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    retired: int = 0


class Wanted(BaseModel):
    """What to look for; each filter that is given must hold before anything is ranked."""

    text: str = Field(min_length=1, max_length=4_000)
    error_codes: tuple[Code, ...] = ()
    platform: Words | None = None
    firmware: Words | None = None
    kinds: tuple[str, ...] = ()
    limit: int = Field(default=10, ge=1, le=100)


class Source(BaseModel):
    """An entry that was found, by which of the two ways, and whether it is everybody's."""

    entry_id: UUID
    version: int
    kind: str
    key: str
    title: str
    text: str
    error_codes: list[str]
    source: str | None
    score: float
    found_by: list[Literal["meaning", "words"]]
    is_shared: bool
