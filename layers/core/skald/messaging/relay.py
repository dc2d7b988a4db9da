"""The relay: leases events from the outbox, sends them, and records the outcome of each."""

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
"""The timeout of the relay's function: a lease ends only after the relay that held it."""
type IsTimeLeft = Callable[[], bool]


@dataclass
class RelayRun:
    """How many events one run sent, returned and parked."""

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
    """Send all events that are due, and return their counts.

    Events are leased in a short transaction and sent outside of it. The transaction that leases the
    next events also records the outcomes: one round trip per round. A crash before the record
    repeats the send, and consumers drop the duplicate.
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
    """Drain, and wait for events in backoff, which is far shorter than the schedule's interval."""
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
