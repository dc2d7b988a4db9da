"""Notes: texts that a client uploads, and whose words are counted."""

from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel

from skald.command import Command
from skald.life import LifeCycle
from skald.messaging.envelope import Envelope, derived_id

CONTEXT = "notes"
SAGA = "note_count"
STEPS = ("count",)
MAX_FILES = 10


class NoteStatus(StrEnum):
    """The states of a note, in their order."""

    OPEN = "open"
    CLOSED = "closed"
    COUNTED = "counted"
    FAILED = "failed"


LIFE = LifeCycle(NoteStatus, failed=NoteStatus.FAILED)


class Note(BaseModel):
    """A note; `words` is known once it is counted."""

    note_id: UUID
    status: NoteStatus
    total_files: int
    words: int | None = None
    failure_detail: str | None = None


class NoteCommand(Command):
    """The input of every step of the saga."""

    note_id: UUID


def count_words(text: str) -> int:
    return len(text.split())


def note_event(event_type: str, tenant_id: UUID, note_id: UUID) -> Envelope:
    """Return the event of a note. A note has one event of each type."""
    return Envelope(
        event_id=derived_id(event_type, note_id),
        event_type=event_type,
        tenant_id=tenant_id,
        target_id=str(note_id),
        target_type="note",
        correlation_id=str(note_id),
        payload={"note_id": str(note_id)},
    )
