"""Retention: how long the kernel keeps rows, and how it deletes old ones (C-09).

`RETENTIONS` lists every kind of row, how long it is kept, and the statement that deletes it.
`delete_old` runs these statements as the relay's role, across tenants. Checkpoint threads are
deleted here and not in their package: the function that deletes them does not load its libraries.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from skald.idempotency import records
from skald.messaging import dead_letters, outbox
from skald.postgres import Database, Transaction
from skald.telemetry import logger

type Delete = Callable[[Transaction, timedelta], int]
"""Deletes up to a bite of rows of all tenants older than the time given; returns how many.

A bite is small, because other transactions wait for its locks.
"""


@dataclass(frozen=True)
class Retention:
    """A kind of row, how long it is kept, and the function that deletes older rows."""

    what: str
    kept: timedelta
    delete: Delete


def delete_old(
    database: Database, retentions: Sequence[Retention], is_time_left: Callable[[], bool]
) -> dict[str, int]:
    """Delete old rows, each bite in its own transaction, while time is left; return counts by name.

    Tables take turns, so that the backlog of one does not delay the others. If a bite fails, the
    other tables continue. Raises an `ExceptionGroup` of the failures at the end.
    """
    deleted = {retention.what: 0 for retention in retentions}
    failures: list[Exception] = []
    turns = deque(retentions)
    while turns and is_time_left():
        retention = turns.popleft()
        try:
            with database.transaction(None) as tx:
                bite = retention.delete(tx, retention.kept)
        except Exception as error:
            failures.append(error)
            continue
        deleted[retention.what] += bite
        if bite:
            turns.append(retention)
    if failures:
        logger.error("old rows could not be deleted", extra={"deleted": deleted})
        raise ExceptionGroup("old rows could not be deleted", failures)
    return deleted


def by_age(table: LiteralString, column: LiteralString, bite: int = 1_000) -> Delete:
    """Return a function that deletes the rows of a table whose `column` is too long ago.

    `column` leads an index. The relay's role is granted `select (ctid, column), delete`.
    """
    statement = f"""
        delete from {table} where ctid = any(array(
            select ctid from {table} where {column} < now() - %s limit %s))
    """  # noqa: S608 (our own names)

    def delete(tx: Transaction, older_than: timedelta) -> int:
        return tx.execute(statement, (older_than, bite)).rowcount

    return delete


def delete_threads(tx: Transaction, older_than: timedelta, bite: int = 100) -> int:
    """Delete checkpoint threads that are this old (plus up to a day), with all their rows.

    A thread that waits for a person stays.
    """
    deleted: int = tx.value(
        """
        with gone as (
            delete from skald.checkpoint_threads
            where ctid = any(array(
                select ctid from skald.checkpoint_threads
                where last_written < ((now() - %s) at time zone 'UTC')::date limit %s))
            returning tenant_id, thread_id
        ),
        writes as (
            delete from skald.checkpoint_writes using gone
            where checkpoint_writes.tenant_id = gone.tenant_id
              and checkpoint_writes.thread_id = gone.thread_id
        ),
        held as (
            delete from skald.checkpoint_values using gone
            where checkpoint_values.tenant_id = gone.tenant_id
              and checkpoint_values.thread_id = gone.thread_id
        ),
        states as (
            delete from skald.checkpoints using gone
            where checkpoints.tenant_id = gone.tenant_id
              and checkpoints.thread_id = gone.thread_id
        )
        select count(*) from gone
        """,
        (older_than, bite),
    )
    return deleted


_TRACED = timedelta(days=14)
"""Spans and published events show cause and effect only together (W-08)."""
_UNTIL_EXPIRY = timedelta(0)
"""The column of the row holds when it expires."""

RETENTIONS = (
    Retention("published_events", _TRACED, outbox.delete_published),
    Retention("spans", _TRACED, by_age("skald.trace_spans", "start_time")),
    # Longer than SQS keeps a message, which is 14 days at most.
    Retention("inbox", timedelta(days=30), by_age("skald.inbox", "received_at", bite=10_000)),
    Retention("dead_letters", timedelta(days=90), dead_letters.delete_old),
    Retention("idempotency_keys", _UNTIL_EXPIRY, records.delete_expired),
    Retention("tickets", _UNTIL_EXPIRY, by_age("skald.tickets", "expires_at")),
    Retention("model_answers", timedelta(days=1), by_age("skald.model_answers", "leased_until")),
    Retention("model_calls", timedelta(days=90), by_age("skald.model_calls", "at")),
    Retention("checkpoint_threads", timedelta(days=30), delete_threads),
)
