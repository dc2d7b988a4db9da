"""The relay: leases events from the outbox, sends them, and settles each by its own verdict."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

from skald.messaging import outbox
from skald.messaging.outbox import Leased
from skald.messaging.queues import Failure, Sender
from skald.postgres import Database, Transaction
from skald.telemetry import logger, metrics

BATCH_SIZE = 100
LEASE = timedelta(seconds=60)
"""As long as the relay's function may run: a lease ends only when who held it is dead."""
type IsTimeLeft = Callable[[], bool]


@dataclass
class RelayRun:
    """What one run did, in events."""

    sent: int = 0
    retried: int = 0
    parked: int = 0

    def add(self, other: "RelayRun") -> None:
        self.sent += other.sent
        self.retried += other.retried
        self.parked += other.parked


@dataclass
class _Round:
    """Events under one lease, and why some of them were not sent."""

    token: UUID = field(default_factory=uuid4)
    events: Sequence[Leased] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)

    def failure(self, event: Leased) -> Failure | None:
        return self.failures.get(str(event.envelope.event_id))


def drain(
    database: Database, sender: Sender, *, is_time_left: IsTimeLeft = lambda: True
) -> RelayRun:
    """Send everything that is due and return what happened.

    Events are leased in a short transaction, sent outside of any, and settled by the transaction
    that leases the next: one round trip per round. A crash between send and settle repeats the
    send, and consumers drop the double.
    """
    outcome = RelayRun()
    current = _Round()
    while True:
        with database.single_statement(None) as transaction:
            _settle(transaction, current, outcome)
            if not is_time_left():
                return outcome
            current = _Round(*outbox.lease(transaction, BATCH_SIZE, LEASE))
        if not current.events:
            return outcome
        current.failures = sender.send([event.envelope for event in current.events])


def drain_through_backoff(
    database: Database, sender: Sender, *, is_time_left: IsTimeLeft
) -> RelayRun:
    """Drain, and stay while events back off: their waits are far shorter than the schedule's."""
    outcome = drain(database, sender, is_time_left=is_time_left)
    while is_time_left():
        with database.single_statement(None) as transaction:
            wait = outbox.next_retry(transaction)
        if wait is None:
            break
        time.sleep(wait.total_seconds())
        outcome.add(drain(database, sender, is_time_left=is_time_left))
    return outcome


def _settle(transaction: Transaction, current: _Round, outcome: RelayRun) -> None:
    sent = [event.position for event in current.events if current.failure(event) is None]
    if sent:
        outbox.finish(transaction, current.token, sent)
        outcome.sent += len(sent)
    for event in current.events:
        if failure := current.failure(event):
            _give_back(transaction, current.token, event, failure, outcome)


def _give_back(
    transaction: Transaction, token: UUID, event: Leased, failure: Failure, outcome: RelayRun
) -> None:
    if failure.temporary and not outbox.is_exhausted(event):
        outbox.retry_later(transaction, token, event, failure.error)
        outcome.retried += 1
    else:
        outbox.park(transaction, token, event, failure.error)
        outcome.parked += 1
        _alert(event, failure)


def _alert(event: Leased, failure: Failure) -> None:
    logger.error(
        "event became a dead letter",
        extra={"event_id": str(event.envelope.event_id), "error": failure.error},
    )
    metrics.count("dead_letters_count", source="outbox")
