"""The inbox: a repeated message takes effect once for each consumer (Q-05)."""

from skald.messaging.envelope import Envelope
from skald.postgres import Transaction


def accept(transaction: Transaction, envelope: Envelope, consumer: str) -> bool:
    """Record the event in the transaction of its effect. False when it took effect before.

    A second delivery waits for the outcome of the first, if the first is still in progress.
    """
    return transaction.changed(
        """
            insert into skald.inbox (tenant_id, event_id, consumer)
            values (%s, %s, %s)
            on conflict do nothing
            """,
        (transaction.tenant_id, envelope.event_id, consumer),
    )
