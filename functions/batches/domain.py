"""Batches of vehicle logs: their models, their states and their rules (V-01 to V-03)."""

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field, field_validator

from batches.features import Features
from skald.command import Command
from skald.life import LifeCycle
from skald.messaging.envelope import Envelope, derived_id
from skald.storage.files import File

CONTEXT = "batches"
"""The prefix of the keys of all objects of this context."""
MAX_FILES = 1_000
MAX_ATTEMPTS = 3
"""How often a file may kill its parser before the file is given up."""
PARSING_TIMEOUT_SECONDS = 1_800
"""After this time, ForceGather continues with the files that are parsed (V-06)."""

SAGA = "batch_pipeline"
STEPS = ("scatter", "force_gather", "gather", "diagnose", "publish")
"""The steps of the pipeline in the saga log, in their order."""


class BatchCommand(Command):
    """The command of every step of the pipeline."""

    batch_id: UUID


class BatchStatus(StrEnum):
    """The states of a batch, in their order."""

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

PERCENTAGES = {
    BatchStatus.UPLOADED: 5,
    BatchStatus.SCATTERING: 10,
    BatchStatus.GATHERING: 50,
    BatchStatus.GATHERED: 60,
    BatchStatus.DIAGNOSING: 70,
    BatchStatus.COMPLETED: 100,
    BatchStatus.FAILED: 100,
}
"""The percentage at each stage of the pipeline; at 100 it has completed or failed (G-14)."""


class NothingParsed(Exception):
    """Every file of a batch failed, so there is nothing to gather."""


class NewBatch(BaseModel, defer_build=True):
    """A batch to create."""

    name: str = Field(min_length=1, max_length=200, description="A name for people.")
    timeout_seconds: int = Field(
        default=PARSING_TIMEOUT_SECONDS,
        ge=5,
        le=PARSING_TIMEOUT_SECONDS,
        strict=True,
        description="Seconds that all files together may take to parse; then the report is "
        "made without the rest.",
    )

    @field_validator("name")
    @classmethod
    def _readable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("a name has no control characters")
        return name


class Batch(BaseModel):
    """A batch of log files."""

    batch_id: UUID = Field(description="The id of the batch.")
    name: str = Field(description="Its name for people.")
    status: BatchStatus = Field(description="Its state.")
    outcome: Literal["complete", "partial"] | None = Field(
        default=None,
        description="`partial` when some files could not be parsed; null before the end.",
    )
    failure_code: str | None = Field(
        default=None, description="Why the batch failed, for programs."
    )
    failure_detail: str | None = Field(
        default=None, description="Why the batch failed, for people."
    )
    total_files: int = Field(description="Files that are registered.")
    processed_files: int = Field(description="Files that are done, parsed or failed.")
    failed_files: int = Field(description="Files that could not be parsed.")
    timeout_seconds: int = Field(description="Seconds that all files together may take to parse.")
    trace_id: str = Field(description="The trace that all work on the batch belongs to.")
    created_at: datetime = Field(description="When it was created.")
    updated_at: datetime = Field(description="When it changed last.")
    completed_at: datetime | None = Field(
        default=None, description="When its report was published."
    )


class FileState(File):
    """A file of a batch and the result of parsing it."""

    status: Literal["registered", "pending", "processing", "completed", "failed"] = Field(
        description="The state of the file."
    )
    reason: str | None = Field(default=None, description="Why it could not be parsed.")
    features: Features | None = Field(default=None, exclude=True)


class BatchProgress(BaseModel, defer_build=True):
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


class ParseJob(BaseModel, defer_build=True):
    """A file of a batch to parse."""

    batch_id: UUID
    file_id: UUID


def percentage(done: int, total: int) -> float:
    return round(100 * done / total, 1) if total else 0.0


def batch_event(
    event_type: str, tenant_id: UUID, batch_id: UUID, trace_id: str, **payload: object
) -> Envelope:
    """Return an event of a batch. A batch has one of each type."""
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
