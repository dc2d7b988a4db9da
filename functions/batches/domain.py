"""Vehicle-log batches: what they are, the order of their states, and the names things get."""

import math
from datetime import datetime
from enum import StrEnum
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, field_validator

from batches.features import Features
from skald.command import Command
from skald.life import LifeCycle
from skald.messaging.envelope import Envelope, derived_id

MIB = 1024 * 1024
PART_BYTES = 5 * MIB
"""Size of every part of an upload but the last (V-02)."""
MAX_PARTS = 10_000
PARTS_PER_ANSWER = 500
MAX_FILES = 1_000
MAX_ATTEMPTS = 3
"""Times a file may kill its parser before it is given up."""
PARSING_TIMEOUT_SECONDS = 1_800
"""After this the gather is forced with what has arrived (V-06)."""

SAGA = "batch_pipeline"
STEPS = ("scatter", "force_gather", "gather", "diagnose", "publish")
"""The steps of the pipeline in the saga log, in their order."""


class BatchCommand(Command):
    """What every step of the pipeline is told."""

    batch_id: UUID


class BatchStatus(StrEnum):
    """The states of a batch, in their order (V-03)."""

    PENDING = "pending"
    UPLOADED = "uploaded"
    SCATTERING = "scattering"
    SCATTERED = "scattered"
    GATHERING = "gathering"
    GATHERED = "gathered"
    DIAGNOSING = "diagnosing"
    COMPLETED = "completed"
    FAILED = "failed"


LIFE = LifeCycle(BatchStatus, failed=BatchStatus.FAILED)
"""A batch goes from each state to the next, or fails."""


class NothingParsed(Exception):
    """Every file of a batch failed, so there is nothing to gather."""


class NewBatch(BaseModel):
    """What a client says to open a batch."""

    name: str = Field(min_length=1, max_length=200)
    timeout_seconds: int = Field(
        default=PARSING_TIMEOUT_SECONDS, ge=5, le=PARSING_TIMEOUT_SECONDS, strict=True
    )
    """Seconds all files together have to be parsed before the report is made without the rest."""

    @field_validator("name")
    @classmethod
    def _readable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("a name has no control characters")
        return name


class Batch(BaseModel):
    """A batch as its owner sees it."""

    batch_id: UUID
    name: str
    status: BatchStatus
    outcome: Literal["complete", "partial"] | None = None
    failure_code: str | None = None
    failure_detail: str | None = None
    total_files: int
    processed_files: int
    failed_files: int
    timeout_seconds: int
    trace_id: str
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None


class NewFile(BaseModel):
    """What a client says to register a file; `size` in bytes."""

    name: str = Field(min_length=1, max_length=200)
    size: int = Field(ge=0, le=MAX_PARTS * PART_BYTES, strict=True)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not is_plain_name(name):
            raise ValueError("a file name has no slashes and no control characters")
        return name


class File(BaseModel):
    """A file of a batch; `arrived_at` is set once S3 holds all of it."""

    file_id: UUID
    name: str
    key: str
    size: int | None = None
    upload_id: str | None = Field(default=None, exclude=True)
    arrived_at: datetime | None = None


class FileState(File):
    """A file and what became of it."""

    status: Literal["registered", "pending", "processing", "completed", "failed"]
    reason: str | None = None
    features: Features | None = Field(default=None, exclude=True)


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


class BatchProgress(BaseModel):
    """One visible change of a batch; `version` numbers them (V-11)."""

    version: int
    status: BatchStatus
    total_files: int
    processed_files: int
    failed_files: int
    at: datetime

    @property
    def percentage(self) -> float:
        """Files done, in percent; 0 for an empty batch."""
        return percentage(self.processed_files, self.total_files)


class ParseJob(BaseModel):
    """The command to parse one file."""

    batch_id: UUID
    file_id: UUID


class ObjectName(BaseModel):
    """What the key of an uploaded object says about it."""

    tenant_id: UUID
    batch_id: UUID
    name: str

    @property
    def key(self) -> str:
        return f"{self.tenant_id}/{self.batch_id}/{self.name}"

    @property
    def file_id(self) -> UUID:
        """The same name in the same batch is the same file, whoever registers it first."""
        return derived_id("file", self.batch_id, self.name)

    @classmethod
    def of_key(cls, key: str) -> Self | None:
        """Read a key, None when it is not one of ours."""
        tenant, _, rest = key.partition("/")
        batch, _, name = rest.partition("/")
        try:
            plain = NewFile(name=name, size=0).name
            return cls(tenant_id=UUID(tenant), batch_id=UUID(batch), name=plain)
        except ValueError:
            return None


def is_plain_name(name: str) -> bool:
    return "/" not in name and "\\" not in name and name.isprintable() and name.strip(". ") != ""


def percentage(done: int, total: int) -> float:
    return round(100 * done / total, 1) if total else 0.0


def part_sizes(size: int) -> list[int]:
    """Return the bytes of each part of a file; an empty file is one empty part."""
    count = max(1, math.ceil(size / PART_BYTES))
    return [PART_BYTES] * (count - 1) + [size - PART_BYTES * (count - 1)]


def batch_event(
    event_type: str, tenant_id: UUID, batch_id: UUID, trace_id: str, **payload: object
) -> Envelope:
    """Return the event of a batch: there is one of each type in a batch's life."""
    batch = str(batch_id)
    return Envelope(
        event_id=derived_id(event_type, batch),
        event_type=event_type,
        tenant_id=tenant_id,
        target_id=batch,
        target_type="batch",
        correlation_id=batch,
        trace_id=trace_id,
        payload={"batch_id": batch, **payload},
    )


def parse_command(tenant_id: UUID, job: ParseJob, trace_id: str) -> Envelope:
    """Return the command to parse one file of a batch."""
    return Envelope(
        event_id=derived_id("file.parse", job.batch_id, job.file_id),
        event_type="file.parse",
        tenant_id=tenant_id,
        target_id=str(job.file_id),
        target_type="file",
        correlation_id=str(job.batch_id),
        trace_id=trace_id,
        payload=job.model_dump(mode="json"),
    )
