"""The transactional outbox: events commit with the rows they speak of (C-09)."""

from datetime import timedelta
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from pydantic import BaseModel

from skald.errors import TooLarge
from skald.messaging import doorbell
from skald.messaging.envelope import MAX_BYTES, Envelope
from skald.state.postgres import Transaction

BACKOFF_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Waits after the first to the fifth temporary failure; then the event is a dead letter (V-12)."""


class Leased(BaseModel):
    """An event this relay may send until its lease ends."""

    position: int
    attempts: int
    envelope: Envelope


def publish(transaction: Transaction, envelope: Envelope, *, aggregate: str | None = None) -> bool:
    """Put an event into the outbox of the caller's transaction.

    Events of one aggregate (default: the target) leave in the order they were put in. Returns
    whether the event is new: the same `event_id` twice is stored once (W-04).
    Raises `TooLarge` above `MAX_BYTES`.
    """
    document = envelope.model_dump_json()
    if len(document.encode()) > MAX_BYTES:
        raise TooLarge(f"the event {envelope.event_type} is larger than {MAX_BYTES} bytes")
    added = transaction.execute(
        """
        insert into skald.outbox (tenant_id, event_id, event_type, aggregate, envelope)
        values (%s, %s, %s, %s, %s)
        on conflict (tenant_id, event_id) do nothing
        """,
        (
            envelope.tenant_id,
            envelope.event_id,
            envelope.event_type,
            aggregate or f"{envelope.target_type}:{envelope.target_id}",
            Jsonb(envelope.model_dump(mode="json")),
        ),
    ).rowcount
    transaction.after_commit("doorbell", doorbell.ring)
    return added == 1


def lease(transaction: Transaction, limit: int, lease_for: timedelta) -> tuple[UUID, list[Leased]]:
    """Claim up to `limit` events for sending, only the head of each aggregate.

    An aggregate whose head is unsent, leased or parked holds its later events back, and no other
    aggregate's. Returns the lease's token and the events in their order.
    """
    token = uuid4()
    rows = transaction.all(
        Leased,
        """
        with head as (
            select position
            from skald.outbox as candidate
            where status = 'pending'
              and available_at <= now()
              and (leased_until is null or leased_until < now())
              and not exists (
                  select from skald.outbox as earlier
                  where earlier.tenant_id = candidate.tenant_id
                    and earlier.aggregate = candidate.aggregate
                    and earlier.position < candidate.position
                    and earlier.status <> 'published')
            order by position
            limit %s
            for update skip locked
        )
        update skald.outbox as outbox
        set lease_token = %s, leased_until = now() + %s, attempts = attempts + 1
        from head
        where outbox.position = head.position
        returning outbox.position, outbox.attempts, outbox.envelope
        """,
        (limit, token, lease_for),
    )
    return token, sorted(rows, key=lambda row: row.position)


def finish(transaction: Transaction, token: UUID, positions: list[int]) -> int:
    """Mark sent events published where this lease still holds; returns how many."""
    return transaction.execute(
        """
        update skald.outbox
        set status = 'published', published_at = now(), lease_token = null, leased_until = null
        where position = any(%s) and lease_token = %s and status = 'pending'
        """,
        (positions, token),
    ).rowcount


def retry_later(transaction: Transaction, token: UUID, event: Leased, error: str) -> None:
    """Give a temporarily failed event back, to be due after its backoff with jitter."""
    wait = timedelta(seconds=BACKOFF_SECONDS[min(event.attempts, len(BACKOFF_SECONDS)) - 1])
    transaction.execute(
        """
        update skald.outbox
        set available_at = now() + %s * (0.75 + random() / 2), last_error = %s,
            lease_token = null, leased_until = null
        where position = %s and lease_token = %s
        """,
        (wait, error, event.position, token),
    )


def park(transaction: Transaction, token: UUID, event: Leased, error: str) -> None:
    """Give up on an event: it becomes a dead letter with its error and time (V-12)."""
    transaction.execute(
        """
        with parked as (
            update skald.outbox
            set status = 'failed', last_error = %(error)s, lease_token = null, leased_until = null
            where position = %(position)s and lease_token = %(token)s
            returning tenant_id, event_id, envelope
        )
        insert into skald.dead_letters (tenant_id, event_id, source, envelope, error)
        select tenant_id, event_id, 'outbox', envelope, %(error)s from parked
        """,
        {"error": error, "position": event.position, "token": token},
    )


def is_exhausted(event: Leased) -> bool:
    """Say whether an event has used up its retries."""
    return event.attempts > len(BACKOFF_SECONDS)
