"""Signals: an event from outside ends the wait of a step; either may come first (G-14).

Event and wait write the same row. The second of the two sees the first, and answers the task token
after its commit. If a crash prevents that, `deliver_forgotten` answers it later.
No product uses signals yet. Grading will, for a review that a person ends.
"""

import json
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import BaseModel

from skald.errors import TooLarge
from skald.messaging.envelope import MAX_BYTES
from skald.postgres import Database, Transaction
from skald.saga import tokens
from skald.telemetry import metrics


class Signal(BaseModel):
    """The key of a signal: one wait of one saga."""

    tenant_id: UUID
    saga_id: str
    name: str


def send(
    database: Database, transaction: Transaction, saga_id: str, name: str, payload: dict[str, Any]
) -> bool:
    """Store an event for a saga; the step that waits for it, now or later, gets its payload.

    Only the first event of a name counts; returns whether this is the first. A repeated event
    answers the step if that is still to be done. Raises `TooLarge` above `MAX_BYTES`.
    """
    if len(json.dumps(payload).encode()) > MAX_BYTES:
        raise TooLarge(f"the event {name} is larger than {MAX_BYTES} bytes")
    signal = Signal(tenant_id=transaction.tenant_id, saga_id=saga_id, name=name)
    accepted = transaction.changed(
        """
        insert into skald.signals as signal (tenant_id, saga_id, name, payload, received_at)
        values (%s, %s, %s, %s, clock_timestamp())
        on conflict (tenant_id, saga_id, name)
        do update set payload = excluded.payload, received_at = excluded.received_at
        where signal.payload is null
        """,
        (signal.tenant_id, saga_id, name, Jsonb(payload)),
    )
    _deliver_after_commit(database, transaction, signal)
    return accepted


def wait(
    database: Database, transaction: Transaction, saga_id: str, name: str, task_token: str
) -> None:
    """Store the task token of a step that waits; an event that came before answers it at once.

    A retried wait brings a new token. Only the newest token is answered.
    """
    signal = Signal(tenant_id=transaction.tenant_id, saga_id=saga_id, name=name)
    transaction.execute(
        """
        insert into skald.signals as signal (tenant_id, saga_id, name, task_token)
        values (%s, %s, %s, %s)
        on conflict (tenant_id, saga_id, name)
        do update set task_token = excluded.task_token, answered_at = null
        where signal.task_token is distinct from excluded.task_token
        """,
        (signal.tenant_id, saga_id, name, task_token),
    )
    _deliver_after_commit(database, transaction, signal)


def deliver(database: Database, signal: Signal) -> bool:
    """Answer the step if both event and token are stored; returns whether this call did it.

    Two calls at once may both answer; Step Functions accepts one answer for a token. A token that
    Step Functions no longer knows (timeout, end of the execution) counts as answered.
    """
    with database.transaction(signal.tenant_id) as transaction:
        row = transaction.execute(
            """
            select payload, task_token from skald.signals
            where tenant_id = %s and saga_id = %s and name = %s and answered_at is null
              and payload is not null and task_token is not null
            """,
            _key(signal),
        ).fetchone()
    if row is None:
        return False
    tokens.succeed(row["task_token"], row["payload"])
    with database.transaction(signal.tenant_id) as transaction:
        # Only for the token that was answered: a retried wait may have stored another one since.
        return transaction.changed(
            "update skald.signals set answered_at = clock_timestamp()"
            " where tenant_id = %s and saga_id = %s and name = %s"
            "   and task_token = %s and answered_at is null",
            (*_key(signal), row["task_token"]),
        )


def deliver_forgotten(lookout: Database, database: Database) -> int:
    """Answer the signals of all tenants that a crash left unanswered; returns how many."""
    with lookout.transaction(None) as transaction:
        forgotten = transaction.all(
            Signal,
            """
            select tenant_id, saga_id, name from skald.signals
            where received_at < clock_timestamp() - interval '10 seconds'
            order by received_at
            limit 100
            """,
        )
    answered = sum(deliver(database, signal) for signal in forgotten)
    if answered:
        metrics.count("signals_forgotten_count", answered)
    return answered


def _deliver_after_commit(database: Database, transaction: Transaction, signal: Signal) -> None:
    def act() -> None:
        deliver(database, signal)

    transaction.after_commit(f"answer {signal.saga_id} {signal.name}", act)


def _key(signal: Signal) -> tuple[UUID, str, str]:
    return signal.tenant_id, signal.saga_id, signal.name
