"""C-09, Q-05: several relays at once, and the tenants that share them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.types.json import Json
from tests.integration.messaging.conftest import Publish, StartRelay, said
from tests.integration.support import event, retention

from skald.messaging import Envelope, inbox, outbox
from skald.messaging.queues import Failure
from skald.messaging.relay import drain_through_backoff
from skald.postgres import Database

MINUTE = timedelta(minutes=1)


class Sink:
    """Accepts every event, except those that a test lets fail a number of times."""

    def __init__(self, failures: int = 0) -> None:
        self._failures = failures
        self.sent: list[Envelope] = []

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:
        if self._failures:
            self._failures -= 1
            return {str(e.event_id): Failure("throttled", temporary=True) for e in events}
        self.sent += events
        return {}


# Side by side -------------------------------------------------------------------------------------


@pytest.mark.parametrize("relays", [2, 4])
def test_racing_processes_neither_double_nor_reorder(
    publish: Publish, start_relay: StartRelay, database: Database, tenant: UUID, relays: int
) -> None:
    """C-09: while leases hold, one relay sends an event, and an aggregate keeps its order."""
    targets = [f"t{number}" for number in range(60)]
    publish(tenant, targets, 8)
    children = [start_relay() for _ in range(relays)]
    sent = [line for child in children for line in said(child)]
    leftover = start_relay()  # events under the last leases of the other relays
    sent += said(leftover)
    assert len({event_id for event_id, _, _ in sent}) == len(sent) == 480
    assert _published_in_order(database, tenant) == {target: list(range(8)) for target in targets}


def _published_in_order(database: Database, tenant: UUID) -> dict[str, list[int]]:
    """Return each target's numbers in the order in which they were settled.

    An event is sent only after its predecessor was settled, so this is the order of sending.
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    with database.transaction(tenant) as tx:
        for row in tx.execute(
            "select envelope ->> 'target_id' as target, (envelope -> 'payload' ->> 'number')::int"
            " as number from skald.outbox where status = 'published' order by published_at"
        ):
            numbers[row["target"]].append(row["number"])
    return numbers


def _takes_effect(database: Database, tenant: UUID, event_id: str) -> bool:
    with database.transaction(tenant) as tx:
        return inbox.accept(tx, event(tenant, event_id=event_id), "consumer")


# Fairness -----------------------------------------------------------------------------------------


def test_a_backlog_of_one_tenant_does_not_delay_another(
    publish: Publish,
    admin: Connection[DictRow],
    relay_database: Database,
    tenant: UUID,
    other_tenant: UUID,
) -> None:
    """C-09: one tenant has 100,000 events; the only event of another is in the first lease."""
    admin.execute(
        """
        insert into skald.outbox
            (tenant_id, event_id, event_type, aggregate, correlation_id, envelope)
        select %s, gen_random_uuid(), 'thing.happened', 'thing:' || n, n, %s
        from generate_series(1, 100000) as n
        """,
        (tenant, Json(event(tenant).model_dump(mode="json"))),
    )
    publish(other_tenant, ["late"])
    with relay_database.transaction(None) as tx:
        _, leased = outbox.lease(tx, 100, MINUTE)
    tenants = [found.envelope.tenant_id for found in leased]
    assert tenants.count(other_tenant) == 1
    assert tenants.count(tenant) == 50


def test_more_tenants_than_places_take_turns(publish: Publish, relay_database: Database) -> None:
    """C-09: if more tenants wait than a lease holds, each tenant gets at most one place."""
    tenants = [uuid4() for _ in range(8)]
    for tenant in tenants:
        publish(tenant, ["a", "b"])
    with relay_database.transaction(None) as tx:
        _, leased = outbox.lease(tx, 5, MINUTE)
    assert len(leased) == 5
    assert len({found.envelope.tenant_id for found in leased}) == 5


# Waiting, measuring, forgetting -------------------------------------------------------------------


def test_a_relay_stays_while_events_back_off(
    publish: Publish, relay_database: Database, tenant: UUID
) -> None:
    """V-12: two temporary failures delay an event by 0.3 s, not until the next schedule."""
    publish(tenant, ["a"], 2)
    sink = Sink(failures=2)
    outcome = drain_through_backoff(relay_database, sink, is_time_left=lambda: True)
    assert (outcome.sent, outcome.retried, outcome.parked) == (2, 2, 0)
    assert [sent.payload["number"] for sent in sink.sent] == [0, 1]


def test_the_outbox_reports_its_metrics(
    publish: Publish, relay_database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """C-09: depth, parked events and the age of the oldest unsent event are metrics."""
    publish(tenant, ["a", "b", "c"])
    admin.execute("update skald.outbox set created_at = now() - interval '90 s'")
    admin.execute("update skald.outbox set status = 'failed' where aggregate = 'thing:a'")
    admin.execute("update skald.outbox set status = 'published' where aggregate = 'thing:b'")
    with relay_database.transaction(None) as tx:
        health = outbox.health(tx)
    assert (health.pending, health.failed) == (1, 1)
    assert 90 <= health.oldest_seconds < 120
    assert health.dead_tuples >= 0


def test_old_published_events_are_deleted(
    publish: Publish, relay_database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """C-09: retention deletes the oldest published events first, in steps, and no unsent event."""
    publish(tenant, ["old", "older", "young", "parked"])
    admin.execute(
        "update skald.outbox set status = 'published',"
        " published_at = now() - case aggregate when 'thing:young' then interval '1 hour'"
        "                                       else interval '8 days' end"
        " where aggregate <> 'thing:parked'"
    )
    admin.execute("update skald.outbox set status = 'failed' where aggregate = 'thing:parked'")
    with relay_database.transaction(None) as tx:
        bites = [outbox.delete_published(tx, timedelta(days=7), 1) for _ in range(3)]
    assert bites == [1, 1, 0]
    left = admin.execute("select aggregate from skald.outbox order by position").fetchall()
    assert [row["aggregate"] for row in left] == ["thing:young", "thing:parked"]


def test_inbox_rows_that_no_queue_can_repeat_are_deleted(
    relay_database: Database, database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """Q-05: inbox rows are kept longer than any message can exist, then deleted."""
    for number in (1, 2):
        with database.transaction(tenant) as tx:
            inbox.accept(tx, event(tenant, number=number), "consumer")
    admin.execute(
        "update skald.inbox set received_at = now() - interval '40 days' where event_id = %s",
        (event(tenant, number=1).event_id,),
    )
    with relay_database.transaction(None) as tx:
        kept = retention("inbox")
        assert kept.delete(tx, kept.kept) == 1
    assert not _takes_effect(database, tenant, str(event(tenant, number=2).event_id))
