"""The inbox: a message takes effect once per consumer, however often it comes (Q-05)."""

from datetime import timedelta

from skald.messaging.envelope import Envelope
from skald.postgres import Transaction


def accept(transaction: Transaction, envelope: Envelope, consumer: str) -> bool:
    """Note the event in the transaction of its effect; False when it took effect before.

    A second delivery that arrives while the first is still at work waits for its outcome.
    """
    return transaction.changed(
        """
            insert into skald.inbox (tenant_id, event_id, consumer)
            values (%s, %s, %s)
            on conflict do nothing
            """,
        (transaction.tenant_id, envelope.event_id, consumer),
    )


def forget(transaction: Transaction, older_than: timedelta, limit: int = 10_000) -> int:
    """Delete notes of events that no queue can deliver any more, at most `limit`; returns how many.

    Needs the relay's role. SQS keeps a message for 14 days at most.
    """
    return transaction.execute(
        """
        delete from skald.inbox
        where ctid = any(array(
            select ctid from skald.inbox where received_at < now() - %s limit %s))
        """,
        (older_than, limit),
    ).rowcount
