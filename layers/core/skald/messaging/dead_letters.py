"""Dead letters: events that could not be sent, to be looked at and replayed (V-12, Q-05)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from skald.errors import Conflict, NotFound
from skald.messaging import doorbell
from skald.messaging.envelope import Envelope
from skald.state.postgres import Transaction


class DeadLetter(BaseModel):
    """An event, why and when it was given up, and by whom and when it was replayed."""

    dead_letter_id: int
    event_id: UUID
    source: str
    envelope: Envelope
    error: str
    failed_at: datetime
    replayed_at: datetime | None = None
    replayed_by: str | None = None


_LETTER = """
    select dead_letter_id, event_id, source, envelope, error, failed_at, replayed_at, replayed_by
    from skald.dead_letters
"""


def find(transaction: Transaction, dead_letter_id: int) -> DeadLetter | None:
    return transaction.one(
        DeadLetter,
        _LETTER + " where tenant_id = %s and dead_letter_id = %s",
        (transaction.tenant_id, dead_letter_id),
    )


def newest(transaction: Transaction, page: int, page_size: int) -> tuple[int, Sequence[DeadLetter]]:
    """Return how many dead letters there are, and one page of them, newest first."""
    total = transaction.value(
        "select count(*) from skald.dead_letters where tenant_id = %s", (transaction.tenant_id,)
    )
    letters = transaction.all(
        DeadLetter,
        _LETTER + " where tenant_id = %s order by dead_letter_id desc limit %s offset %s",
        (transaction.tenant_id, page_size, (page - 1) * page_size),
    )
    return total, letters


def replay(transaction: Transaction, dead_letter_id: int, actor_id: str) -> DeadLetter:
    """Send the event once more, in its old place of its aggregate's order, and say who asked.

    Raises `NotFound`, and `Conflict` when the letter was replayed before: an event that fails
    again makes another letter.
    """
    event_id = transaction.value("select skald.replay(%s, %s)", (dead_letter_id, actor_id))
    letter = find(transaction, dead_letter_id)
    if letter is None:
        raise NotFound("no such dead letter")
    if event_id is None:
        raise Conflict(f"this dead letter was replayed by {letter.replayed_by}")
    transaction.after_commit("doorbell", doorbell.ring)
    return letter
