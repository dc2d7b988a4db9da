"""HTTP routes of notes."""

from uuid import UUID, uuid4

from notes import repository, uploads
from notes.domain import Note, NoteStatus, note_event
from skald.entrypoints.http import Api, Caller, Tx
from skald.errors import Conflict, NotFound
from skald.messaging import outbox
from skald.postgres import database
from skald.storage.files import File, NewFile, Upload

api = Api()
handler = api.handler


@api.route("POST", "/notes", status=201, idempotent="header")
def create_note(tx: Tx) -> Note:
    """Create a note."""
    note_id = uuid4()
    repository.create(tx, note_id)
    return _found(repository.find(tx, note_id))


@api.route("GET", "/notes/<note_id>")
def get_note(note_id: UUID, tx: Tx) -> Note:
    """Get a note and the number of its words."""
    return _found(repository.find(tx, note_id))


@api.route("POST", "/notes/<note_id>/files", problems=(409,), status=201)
def register_file(note_id: UUID, new: NewFile, caller: Caller) -> Upload:
    """Register a file of a note and get signed URLs for its parts."""
    return uploads.files.register(caller.tenant_id, note_id, new)


@api.route("POST", "/notes/<note_id>/files/<file_id>/complete", problems=(409,))
def complete_file(note_id: UUID, file_id: UUID, caller: Caller) -> File:
    """Complete a file from its parts. 409 names the missing parts."""
    return uploads.files.complete(caller.tenant_id, note_id, file_id)


@api.route("POST", "/notes/<note_id>/close", problems=(409,), status=202)
def close_note(note_id: UUID, caller: Caller) -> Note:
    """Close a note; its words are counted after that. The same request again changes nothing."""
    uploads.files.catch_up(caller.tenant_id, note_id)
    with database().transaction(caller.tenant_id) as tx:
        note = _found(repository.find(tx, note_id))
        if note.total_files == 0:
            raise Conflict("the note has no file")
        if repository.NOTES.advance(tx, note_id, NoteStatus.CLOSED):
            outbox.publish(tx, note_event("note.closed", tx.tenant_id, note_id))
        return _found(repository.find(tx, note_id))


def _found(note: Note | None) -> Note:
    if note is None:
        raise NotFound("no such note")
    return note
