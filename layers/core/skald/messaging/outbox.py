"""The transactional outbox: events commit with the rows they are about (C-09)."""

import re
from collections.abc import Sequence
from datetime import timedelta
from itertools import batched
from uuid import UUID, uuid4

from pydantic import BaseModel, Json, TypeAdapter

from skald.errors import InvalidInput, TooLarge
from skald.messaging import doorbell
from skald.messaging.envelope import MAX_BYTES, Envelope
from skald.postgres import Transaction

BACKOFF_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Waits after the first to the fifth temporary failure. Then the event is a dead letter (V-12)."""

EVENTS_PER_STATEMENT = 500

_DOCUMENTS = TypeAdapter(Envelope)
# PostgreSQL stores NUL and fails to read it. A backslash of the text itself is doubled.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Leased(BaseModel, defer_build=True):
    """An event that this relay may send until its lease ends."""

    position: int
    attempts: int
    envelope: Json[Envelope]


# `waiting` jumps in the index from tenant to tenant, past any number of rows. The update gets its
# rows as an array: the planner does not know that they are few and would join the whole table.
_LEASE = """
    with recursive waiting as (
        (select tenant_id from skald.outbox where status = 'pending' order by tenant_id limit 1)
        union all
        select following.tenant_id
        from waiting cross join lateral (
            select tenant_id from skald.outbox
            where status = 'pending' and tenant_id > waiting.tenant_id
            order by tenant_id
            limit 1) as following
    ),
    turn as materialized (
        select tenant_id from waiting order by random() limit %(limit)s
    ),
    head as materialized (
        select due.position
        from turn cross join lateral (
            select position
            from skald.outbox as candidate
            where candidate.tenant_id = turn.tenant_id
              and status = 'pending'
              and available_at <= now()
              and (leased_until is null or leased_until < now())
              and not exists (
                  select from skald.outbox as earlier
                  where earlier.tenant_id = candidate.tenant_id
                    and earlier.aggregate = candidate.aggregate
                    and earlier.position < candidate.position
                    and earlier.status <> 'published')
            order by position
            limit greatest(1, %(limit)s / (select count(*) from turn))
            for update skip locked) as due
    )
    update skald.outbox
    set lease_token = %(token)s, leased_until = now() + %(lease_for)s, attempts = attempts + 1
    where position = any(array(select position from head))
    returning position, attempts, envelope::text
"""


def publish(transaction: Transaction, envelope: Envelope, *, aggregate: str | None = None) -> None:
    """Put an event into the outbox, in the caller's transaction: it is sent after the commit.

    Events of one aggregate (default: the target) are sent in the order of these calls. If two
    transactions overlap, the one that locks the row of the aggregate first comes first. A repeated
    `event_id` is stored once, and `find` returns the first event (W-04). Raises `TooLarge` above
    `MAX_BYTES`, and `InvalidInput` for a text with NUL, which PostgreSQL cannot read.
    """
    transaction.later(
        """
        insert into skald.outbox
            (tenant_id, event_id, event_type, aggregate, correlation_id, envelope)
        values (%s, %s, %s, %s, %s, %s)
        on conflict (tenant_id, event_id) do nothing
        """,
        (
            envelope.tenant_id,
            envelope.event_id,
            envelope.event_type,
            aggregate or _target(envelope),
            envelope.chain,
            _document(envelope),
        ),
    )
    transaction.after_commit("doorbell", doorbell.ring)


def publish_all(transaction: Transaction, envelopes: Sequence[Envelope]) -> None:
    """Put many events into the outbox in their order, with few statements, as `publish` does."""
    for events in batched(envelopes, EVENTS_PER_STATEMENT, strict=False):
        transaction.later(
            """
            insert into skald.outbox
                (tenant_id, event_id, event_type, aggregate, correlation_id, envelope)
            select tenant_id, event_id, event_type, aggregate, correlation_id, envelope::json
            from unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[])
                with ordinality as event
                (tenant_id, event_id, event_type, aggregate, correlation_id, envelope, number)
            order by number
            on conflict (tenant_id, event_id) do nothing
            """,
            (
                [event.tenant_id for event in events],
                [event.event_id for event in events],
                [event.event_type for event in events],
                [_target(event) for event in events],
                [event.chain for event in events],
                [_document(event) for event in events],
            ),
        )
        transaction.after_commit("doorbell", doorbell.ring)


def _target(envelope: Envelope) -> str:
    return f"{envelope.target_type}:{envelope.target_id}"


def _document(envelope: Envelope) -> str:
    document = _DOCUMENTS.dump_json(envelope)
    if len(document) > MAX_BYTES:
        raise TooLarge(f"the event {envelope.event_type} is larger than {MAX_BYTES} bytes")
    if b"\\u0000" in document and _NUL.search(document):
        raise InvalidInput(f"a text of the event {envelope.event_type} holds NUL")
    return document.decode()


def find(transaction: Transaction, event_id: UUID) -> Envelope | None:
    """Return the event with this id, the first that was published (W-04)."""
    document = transaction.value(
        "select envelope from skald.outbox where tenant_id = %s and event_id = %s",
        (transaction.tenant_id, event_id),
    )
    return None if document is None else Envelope.model_validate(document)


def lease(transaction: Transaction, limit: int, lease_for: timedelta) -> tuple[UUID, list[Leased]]:
    """Claim up to `limit` events to send, only the head of each aggregate.

    A head that is unsent, leased or parked blocks only the later events of its aggregate.
    Tenants share the lease evenly, so a backlog delays only its own tenant. When more than `limit`
    tenants wait, they are chosen at random. Returns the token of the lease and the events in order.
    """
    token = uuid4()
    rows = transaction.all(Leased, _LEASE, {"limit": limit, "token": token, "lease_for": lease_for})
    return token, sorted(rows, key=lambda row: row.position)


def finish(transaction: Transaction, token: UUID, positions: list[int]) -> None:
    """Mark sent events as published if this lease still holds; runs with the next statement."""
    transaction.later(
        """
        update skald.outbox
        set status = 'published', published_at = now(), lease_token = null, leased_until = null
        where position = any(%s) and lease_token = %s and status = 'pending'
        """,
        (positions, token),
    )


def retry_later(transaction: Transaction, token: UUID, event: Leased, error: str) -> None:
    """Return a temporarily failed event to the outbox; it is due after its backoff with jitter."""
    wait = timedelta(seconds=BACKOFF_SECONDS[min(event.attempts, len(BACKOFF_SECONDS)) - 1])
    transaction.later(
        """
        update skald.outbox
        set available_at = now() + %s * (0.75 + random() / 2), last_error = %s,
            lease_token = null, leased_until = null
        where position = %s and lease_token = %s
        """,
        (wait, error, event.position, token),
    )


def park(transaction: Transaction, token: UUID, event: Leased, error: str) -> None:
    """Park an event: it becomes a dead letter with its error and time (V-12)."""
    transaction.later(
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


# Upkeep -------------------------------------------------------------------------------------------


class Health(BaseModel, defer_build=True):
    """The state of the outbox: events, seconds, and row versions that wait for vacuum."""

    pending: int
    failed: int
    oldest_seconds: float
    dead_tuples: int


def health(transaction: Transaction) -> Health:
    """Return the state of the outbox of all tenants. Needs the relay's role."""
    found = transaction.one(
        Health,
        """
        select count(*) filter (where status = 'pending') as pending,
               count(*) filter (where status = 'failed') as failed,
               coalesce(extract(epoch from now() - min(created_at)
                   filter (where status = 'pending')), 0) as oldest_seconds,
               (select n_dead_tup from pg_stat_user_tables
                where relid = 'skald.outbox'::regclass) as dead_tuples
        from skald.outbox
        where status <> 'published'
        """,
    )
    assert found is not None  # noqa: S101  # an aggregate always has a row
    return found


def next_retry(transaction: Transaction) -> timedelta | None:
    """Return the time until the next event after a backoff is due, None without one."""
    wait: timedelta | None = transaction.value(
        "select min(available_at) - now() from skald.outbox"
        " where status = 'pending' and available_at > now() and lease_token is null"
    )
    return wait


def delete_published(transaction: Transaction, older_than: timedelta, bite: int = 1_000) -> int:
    """Delete published events that are older than this, at most `bite`, and return how many.

    Positions grow with time, so the oldest rows come first on the primary key. Retention needs no
    index of its own, and no partitions, which could not keep `event_id` unique.
    """
    return transaction.execute(
        """
        with oldest as (
            select position, published_at from skald.outbox
            where status = 'published'
            order by position
            limit %s
            for update skip locked
        )
        delete from skald.outbox as outbox
        using oldest
        where outbox.position = oldest.position and oldest.published_at < now() - %s
        """,
        (bite, older_than),
    ).rowcount
