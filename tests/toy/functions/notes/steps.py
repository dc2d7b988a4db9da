"""The steps of `note_count` in their order. Each is one task of the state machine."""

from typing import Any

from notes import repository
from notes.domain import SAGA, STEPS, NoteCommand, NoteStatus, count_words, note_event
from skald.entrypoints.step import Result, step, step_with_work
from skald.life import IllegalTransition
from skald.messaging import outbox
from skald.postgres import Transaction, database
from skald.saga import SagaLog, SagaStatus
from skald.storage.objects import UPLOADS


class FailCommand(NoteCommand):
    """Why the saga fails: the error's name and its cause."""

    error: dict[str, Any]


def _read(command: NoteCommand) -> int:
    with database().transaction(command.tenant_id) as tx:
        keys = repository.keys(tx, command.note_id)
    return sum(count_words((UPLOADS.read(key) or b"").decode(errors="replace")) for key in keys)


@step_with_work(_read)
def count(command: NoteCommand, tx: Transaction, words: int) -> Result:
    """Store the number of words and publish an event. The pivot."""
    if not repository.NOTES.advance(tx, command.note_id, NoteStatus.COUNTED, words=words):
        raise IllegalTransition(f"note {command.note_id} is not closed")
    outbox.publish(tx, note_event("note.counted", command.tenant_id, command.note_id))
    SagaLog(tx, command.saga_id).move(SagaStatus.COMPLETED, SagaStatus.RUNNING)
    return {"words": words}


@step
def give_up(command: FailCommand, tx: Transaction) -> Result:
    """Fail the note, unless it is counted, and publish an event."""
    detail = f"{command.error.get('Error')}: {command.error.get('Cause')}"
    undone = repository.NOTES.fail(tx, command.note_id, "count_failed", detail)
    if undone:
        outbox.publish(tx, note_event("note.failed", command.tenant_id, command.note_id))
        log = SagaLog(tx, command.saga_id)
        log.begin(SAGA, STEPS, command)
        log.move(SagaStatus.COMPENSATED, SagaStatus.RUNNING, error=detail)
    return {"undone": undone}
