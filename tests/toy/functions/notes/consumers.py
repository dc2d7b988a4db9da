"""Consumers of notes: arriving objects, and notes that are closed."""

from notes import uploads
from notes.domain import SAGA, STEPS, NoteCommand
from skald.config import required
from skald.entrypoints.consumer import StoredObject, consumer, object_created
from skald.messaging import Envelope
from skald.postgres import database
from skald.saga import SagaLog, execution


@object_created
def file_arrived(stored: StoredObject) -> None:
    """Note that an uploaded file has arrived."""
    uploads.files.arrived(stored.key, stored.size)


@consumer
def count(envelope: Envelope) -> None:
    """Start the saga of a note that was closed."""
    note_id = envelope.payload["note_id"]
    document = {
        "saga_id": note_id,
        "note_id": note_id,
        "tenant_id": str(envelope.tenant_id),
        "trace_id": envelope.trace_id,
    }
    started = execution.start(required("NOTE_COUNT_ARN"), SAGA, note_id, document)
    command = NoteCommand.model_validate(document)
    with database().transaction(envelope.tenant_id) as tx:
        SagaLog(tx, note_id).begin(SAGA, STEPS, command, execution=started)
