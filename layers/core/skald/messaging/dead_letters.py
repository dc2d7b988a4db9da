"""Dead letters: undeliverable messages, stored to be examined and replayed (V-12, Q-05)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel, Field

from skald.errors import Conflict, NotFound
from skald.messaging import doorbell
from skald.messaging.envelope import Envelope
from skald.postgres import Transaction


class DeadLetter(BaseModel):
    """An event or message that could not be delivered."""

    dead_letter_id: int = Field(description="The number of the letter.")
    event_id: UUID | None = Field(description="The event it holds, if it holds one.")
    source: str = Field(description="Where it was given up: the outbox, or the name of a queue.")
    envelope: Envelope | None = Field(description="The event, if it holds one.")
    message: str | None = Field(default=None, description="The text of a message that is no event.")
    error: str = Field(description="Why it was given up.")
    receive_count: int | None = Field(
        default=None, description="How often its consumer received it."
    )
    failed_at: datetime = Field(description="When it was given up.")
    replayed_at: datetime | None = Field(default=None, description="When it was sent again.")
    replayed_by: str | None = Field(default=None, description="The API key that had it sent again.")


class Undelivered(BaseModel):
    """A message of a dead-letter queue. `source` is the queue that gave it up."""

    source: str
    message_id: str
    receive_count: int
    body: str


_LETTER = """
    select dead_letter_id, event_id, source, envelope, message, error, receive_count, failed_at,
           replayed_at, replayed_by
    from skald.dead_letters
"""


def keep(
    transaction: Transaction, message: Undelivered, envelope: Envelope | None, error: str
) -> bool:
    """Store a message with its event, if it holds one. False when it was stored before."""
    return transaction.changed(
        """
            insert into skald.dead_letters
                (tenant_id, event_id, source, envelope, error, message_id, message, receive_count)
            values (%s, %s, %s, %s, %s, %s, %s, %s)
            on conflict (tenant_id, source, message_id) where message_id is not null do nothing
            """,
        (
            transaction.tenant_id,
            envelope.event_id if envelope else None,
            message.source,
            envelope.model_dump_json() if envelope else None,
            error,
            message.message_id,
            None if envelope else message.body,
            message.receive_count,
        ),
    )


def cause(transaction: Transaction, envelope: Envelope) -> str | None:
    """Return the last error of the event's consumer, None when its process died without one."""
    found: str | None = transaction.value(
        """
        select name || ' failed: ' || (attributes ->> 'error.type') from skald.trace_spans
        where tenant_id = %s and trace_id = %s and kind = 'consumer' and status = 'error'
          and attributes ->> 'event_id' = %s
        order by end_time desc
        limit 1
        """,
        (transaction.tenant_id, envelope.trace_id, str(envelope.event_id)),
    )
    return found


def find(transaction: Transaction, dead_letter_id: int) -> DeadLetter | None:
    return transaction.one(
        DeadLetter,
        _LETTER + " where tenant_id = %s and dead_letter_id = %s",
        (transaction.tenant_id, dead_letter_id),
    )


def newest(transaction: Transaction, page: int, page_size: int) -> tuple[int, Sequence[DeadLetter]]:
    """Return the number of dead letters, and one page of them, newest first."""
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
    """Send the event again to the queue of its type, and record which actor asked.

    A parked event of the outbox keeps its place in the order of its aggregate. Raises `NotFound`,
    and `Conflict` when the letter holds no event or was replayed before. An event that fails again
    becomes another letter.
    """
    event_id = transaction.value("select skald.replay(%s, %s)", (dead_letter_id, actor_id))
    letter = find(transaction, dead_letter_id)
    if letter is None:
        raise NotFound("no such dead letter")
    if letter.envelope is None:
        raise Conflict("this dead letter holds no event and cannot be replayed")
    if event_id is None:
        raise Conflict(f"this dead letter was replayed by {letter.replayed_by}")
    transaction.after_commit("doorbell", doorbell.ring)
    return letter


def delete_old(transaction: Transaction, older_than: timedelta, bite: int = 1_000) -> int:
    """Delete letters that are older than this, at most `bite`, and return how many.

    A letter stays while its event is parked in the outbox: only a replay moves that event. Needs
    the relay's role.
    """
    return transaction.execute(
        """
        delete from skald.dead_letters
        where dead_letter_id = any(array(
            select dead_letter_id from skald.dead_letters as letter
            where failed_at < now() - %s and not exists (
                select from skald.outbox as event
                where (event.tenant_id, event.event_id) = (letter.tenant_id, letter.event_id)
                  and event.status = 'failed')
            limit %s))
        """,
        (older_than, bite),
    ).rowcount
