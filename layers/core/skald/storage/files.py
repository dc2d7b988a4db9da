"""Uploaded files: what a client says, and what it is told (V-02)."""

import math
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field, field_validator

from skald.storage.names import MAX_NAME, plain_name

PART_BYTES = 5 * 1024 * 1024
"""Size of every part of an upload but the last."""
MAX_PARTS = 10_000
PARTS_PER_ANSWER = 500


class NewFile(BaseModel):
    """What a client says to register a file; `size` in bytes."""

    name: str = Field(min_length=1, max_length=MAX_NAME)
    size: int = Field(ge=0, le=MAX_PARTS * PART_BYTES, strict=True)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)


class File(BaseModel):
    """A file; `arrived_at` is set once S3 holds all of it."""

    file_id: UUID
    name: str
    key: str
    size: int | None = None
    upload_id: str | None = Field(default=None, exclude=True)
    arrived_at: datetime | None = None


class Part(BaseModel):
    """One part of an upload: PUT its bytes to `url` before it expires."""

    number: int
    size: int
    url: str


class Upload(BaseModel):
    """How far an upload is, and where to send (the first of) what is missing (V-02)."""

    file_id: UUID
    name: str
    part_size: int = PART_BYTES
    parts_total: int
    arrived: list[int]
    missing: list[Part]


def part_sizes(size: int) -> list[int]:
    """Return the bytes of each part of a file; an empty file is one empty part."""
    count = max(1, math.ceil(size / PART_BYTES))
    return [PART_BYTES] * (count - 1) + [size - PART_BYTES * (count - 1)]
