"""The relay: leases events from the outbox, sends them, and settles each by its own verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from skald.messaging import outbox
from skald.messaging.outbox import Leased
from skald.messaging.queues import Failure, Sender
from skald.state.postgres import Database
from skald.telemetry import logger, metrics

BATCH_SIZE = 100
LEASE = timedelta(seconds=30)


@dataclass
class Outcome:
    """What one run did, in events."""

    sent: int = 0
    retried: int = 0
    parked: int = 0


def drain(
    database: Database, sender: Sender, *, is_time_left: Callable[[], bool] = lambda: True
) -> Outcome:
    """Send everything that is due and return what happened.

    Each round claims in one short transaction, sends outside of any, and settles in another, so
    a crash between send and settle repeats the send and consumers drop the double.
    """
    outcome = Outcome()
    while is_time_left():
        with database.transaction(None) as transaction:
            token, events = outbox.lease(transaction, BATCH_SIZE, LEASE)
        if not events:
            break
        failures = sender.send([event.envelope for event in events])
        _settle(database, token, events, failures, outcome)
    return outcome


def _settle(
    database: Database,
    token: UUID,
    events: Sequence[Leased],
    failures: Mapping[str, Failure],
    outcome: Outcome,
) -> None:
    sent = [event.position for event in events if str(event.envelope.event_id) not in failures]
    with database.transaction(None) as transaction:
        outcome.sent += outbox.finish(transaction, token, sent)
        for event in events:
            failure = failures.get(str(event.envelope.event_id))
            if failure is None:
                continue
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
