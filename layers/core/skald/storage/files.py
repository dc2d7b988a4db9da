"""Uploaded files, as clients send and read them (V-02)."""

import math
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field, field_validator

from skald.storage.names import MAX_NAME, plain_name

PART_BYTES = 5 * 1024 * 1024
"""Size of every part of an upload but the last."""
MAX_PARTS = 10_000
PARTS_PER_ANSWER = 500


class NewFile(BaseModel, defer_build=True):
    """A file to register."""

    name: str = Field(
        min_length=1, max_length=MAX_NAME, description="The file name, without slashes."
    )
    size: int = Field(
        ge=0, le=MAX_PARTS * PART_BYTES, strict=True, description="The size in bytes."
    )

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)


class File(BaseModel, defer_build=True):
    """A file that a client uploads."""

    file_id: UUID = Field(description="The id of the file.")
    name: str = Field(description="The file name.")
    key: str = Field(description="The key of the object in S3.")
    size: int | None = Field(default=None, description="The size in bytes.")
    upload_id: str | None = Field(default=None, exclude=True)
    arrived_at: datetime | None = Field(
        default=None, description="When S3 had all of it; null before."
    )


class Part(BaseModel, defer_build=True):
    """One part of an upload. Send its bytes with PUT to `url`."""

    number: int = Field(description="The number of the part, from 1.")
    size: int = Field(description="The size in bytes.")
    url: str = Field(description="The signed URL; it expires.")


class Upload(BaseModel, defer_build=True):
    """How far an upload is, and where to send the missing parts."""

    file_id: UUID = Field(description="The id of the file.")
    name: str = Field(description="The file name.")
    part_size: int = Field(
        default=PART_BYTES, description="The size of every part but the last, in bytes."
    )
    parts_total: int = Field(description="Parts of the file.")
    arrived: list[int] = Field(description="Numbers of the parts that S3 has.")
    missing: list[Part] = Field(description="Parts that S3 does not have, the first 500 at most.")


def part_sizes(size: int) -> list[int]:
    """Return the bytes of each part of a file; an empty file is one empty part."""
    count = max(1, math.ceil(size / PART_BYTES))
    return [PART_BYTES] * (count - 1) + [size - PART_BYTES * (count - 1)]
