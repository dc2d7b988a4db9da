"""All SQL of notes. Each change applies only from its expected state and returns whether it did."""

from uuid import UUID

from notes.domain import LIFE, MAX_FILES, Note, NoteStatus
from skald.life import Lived
from skald.postgres import Transaction
from skald.storage.file_table import FileTable

NOTES = Lived(LIFE, table=("notes", "notes"), key="note_id")
FILES = FileTable(
    ("notes", "files"), ("notes", "notes"), owner="note", open_in=NoteStatus.OPEN, most=MAX_FILES
)


def create(tx: Transaction, note_id: UUID) -> None:
    tx.execute(
        "insert into notes.notes (tenant_id, note_id) values (%s, %s)", (tx.tenant_id, note_id)
    )


def find(tx: Transaction, note_id: UUID) -> Note | None:
    return tx.one(
        Note,
        "select note_id, status, total_files, words, failure_detail from notes.notes"
        " where tenant_id = %s and note_id = %s",
        (tx.tenant_id, note_id),
    )


def keys(tx: Transaction, note_id: UUID) -> list[str]:
    """Return the keys of the files that have arrived, by name."""
    rows = tx.execute(
        "select key from notes.files"
        " where tenant_id = %s and note_id = %s and arrived_at is not null order by name",
        (tx.tenant_id, note_id),
    )
    return [row["key"] for row in rows.fetchall()]


def resolved(tx: Transaction, saga_id: str, note: str) -> None:
    """End a note whose saga an operator resolved."""
    NOTES.fail(tx, UUID(saga_id), "resolved_by_hand", note)
