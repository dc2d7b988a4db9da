"""The inbox: a message takes effect once per consumer, however often it comes (Q-05)."""

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
