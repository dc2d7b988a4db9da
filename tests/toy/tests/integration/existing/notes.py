"""Notes that are open, closed and counted, with a file."""

from uuid import UUID, uuid4

from tests.integration.existing.world import Ids, World

from notes import repository
from notes.domain import CONTEXT, NoteStatus
from skald.postgres import Transaction
from skald.storage.names import ObjectName


def existing(world: World) -> list[Ids]:
    """Return the ids of notes and their files."""
    with world.database.transaction(world.tenant) as tx:
        return [_note(tx, *states) for states in _STATES]


_STATES = [(), (NoteStatus.CLOSED,), (NoteStatus.CLOSED, NoteStatus.COUNTED)]


def _note(tx: Transaction, *states: NoteStatus) -> Ids:
    note_id: UUID = uuid4()
    repository.create(tx, note_id)
    name = ObjectName(context=CONTEXT, tenant_id=tx.tenant_id, owner_id=note_id, name="note.txt")
    repository.FILES.add(tx, name, 5)
    for state in states:
        repository.NOTES.enter(tx, note_id, state)
    return {"note_id": str(note_id), "file_id": str(name.file_id)}
