"""C-09, Q-05, W-04: events commit with their rows, are sent once, in order, and never lost."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import Connection, errors, sql
from psycopg.rows import DictRow
from psycopg.types.json import Json
from tests.integration.support import event, rows_read, scans_of, together, wait_until_blocked

from skald.errors import InvalidInput, TooLarge
from skald.messaging import Envelope, inbox, outbox
from skald.messaging.envelope import MAX_BYTES
from skald.messaging.queues import Failure
from skald.messaging.relay import LEASE, RelayRun, drain
from skald.postgres import Database
from skald.saga import timeline
from skald.traces.chain import find_chain

MINUTE = timedelta(minutes=1)


class Recorder:
    """A sender that records what it sends, and fails where a test says so."""

    def __init__(self, failures: Mapping[UUID, Failure] | None = None) -> None:
        self.failures = failures or {}
        self.sent: list[Envelope] = []

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:
        failed = {e.event_id: self.failures[e.event_id] for e in events if self._fails(e)}
        self.sent += [e for e in events if e.event_id not in failed]
        return {str(event_id): failure for event_id, failure in failed.items()}

    def _fails(self, envelope: Envelope) -> bool:
        return envelope.event_id in self.failures

    @property
    def numbers(self) -> list[tuple[str, int]]:
        return [(sent.target_id, sent.payload["number"]) for sent in self.sent]


class Killed(BaseException):
    """The end of the relay's process."""


class Outbox:
    """The outbox of a test: filled as the app, read and changed as an administrator."""

    def __init__(self, database: Database, admin: Connection[DictRow], tenant: UUID) -> None:
        self._database = database
        self._admin = admin
        self.tenant = tenant

    def put(self, *events: Envelope) -> None:
        with self._database.transaction(self.tenant) as tx:
            for event in events:
                outbox.publish(tx, event)

    def row(self, envelope: Envelope) -> dict[str, Any]:
        row = self._admin.execute(
            "select * from skald.outbox where event_id = %s", (envelope.event_id,)
        ).fetchone()
        assert row is not None
        return row

    def rows(self, table: LiteralString = "skald.outbox") -> list[dict[str, Any]]:
        query = sql.SQL("select * from {} where tenant_id = %s").format(sql.SQL(table))
        return self._admin.execute(query, (self.tenant,)).fetchall()

    def back_off(self) -> None:
        """Let each waiting event wait for a minute."""
        self._admin.execute("update skald.outbox set available_at = now() + interval '1 minute'")

    def make_due(self) -> None:
        """End all backoffs and leases."""
        self._admin.execute(
            "update skald.outbox set available_at = now(), leased_until = now() - interval '1 s'"
            " where status = 'pending'"
        )


@pytest.fixture
def box(database: Database, admin: Connection[DictRow], tenant: UUID) -> Outbox:
    """An empty outbox. The events of other tests are deleted, because relays see all tenants."""
    admin.execute("truncate skald.outbox, skald.dead_letters")
    return Outbox(database, admin, tenant)


# Publishing ---------------------------------------------------------------------------------------


def test_event_and_row_vanish_together(database: Database, box: Outbox, tenant: UUID) -> None:
    """C-09: a rollback removes the event together with its rows."""

    def publish_and_break() -> None:
        with database.transaction(tenant) as tx:
            inbox.accept(tx, event(tenant), "test")
            outbox.publish(tx, event(tenant))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        publish_and_break()
    assert box.rows() == []
    assert box.rows("skald.inbox") == []


def test_the_same_event_is_stored_once(box: Outbox, tenant: UUID) -> None:
    """W-04: publishing the same event_id twice stores one row, the first."""
    first = event(tenant, payload={"number": 1})
    box.put(first, first.model_copy(update={"payload": {"number": 2}}))
    assert [row["envelope"]["payload"] for row in box.rows()] == [{"number": 1}]


def test_many_events_are_put_in_by_few_statements(
    database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """C-09, V-04: they keep their order, and a repeated event is stored once."""
    events = [event(tenant, f"t{number % 7}", number) for number in range(1_000)]
    with database.transaction(tenant) as tx:
        outbox.publish_all(tx, [*events, events[3]])
        assert len(tx._waiting) == 3, "a statement for each 500 events"
    stored = admin.execute(
        "select event_id, aggregate from skald.outbox where tenant_id = %s order by position",
        (tenant,),
    ).fetchall()
    assert [row["event_id"] for row in stored] == [sent.event_id for sent in events]
    assert [row["aggregate"] for row in stored] == [f"thing:{sent.target_id}" for sent in events]
    with database.transaction(tenant) as tx:
        assert outbox.find(tx, events[999].event_id) == events[999]


def test_many_events_vanish_together(database: Database, tenant: UUID) -> None:
    """C-09: one event that is too large or of another tenant refuses all."""
    large = event(tenant, "t2", payload={"text": "x" * (MAX_BYTES + 1)})
    with pytest.raises(TooLarge), database.transaction(tenant) as tx:
        outbox.publish_all(tx, [event(tenant), large])
    with (
        pytest.raises(errors.InsufficientPrivilege),
        database.transaction(tenant) as tx,
    ):
        outbox.publish_all(tx, [event(tenant), event(uuid4())])
    with database.transaction(tenant) as tx:
        assert tx.value("select count(*) from skald.outbox") == 0


def test_the_same_event_in_two_transactions_is_stored_once(
    database: Database, box: Outbox, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """W-04: the second of two racing transactions waits for the first and stores nothing."""
    with ThreadPoolExecutor(1) as pool:
        with database.transaction(tenant) as tx:
            first = event(tenant, payload={"number": 1})
            outbox.publish(tx, first)
            assert outbox.find(tx, first.event_id) == first
            second = pool.submit(box.put, first.model_copy(update={"payload": {"number": 2}}))
            wait_until_blocked(admin)
        second.result()
    assert [row["envelope"]["payload"] for row in box.rows()] == [{"number": 1}]


def test_event_ids_are_each_tenants_own(
    database: Database, box: Outbox, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-10: a tenant cannot block the event of another by using its id first."""
    shared = uuid4()
    box.put(event(tenant, event_id=shared))
    with database.transaction(other_tenant) as tx:
        outbox.publish(tx, event(other_tenant, event_id=shared))
        assert outbox.find(tx, shared) is not None


def test_an_oversized_event_is_refused_whole(box: Outbox, tenant: UUID) -> None:
    """C-09: an event over 200 KiB is refused, and nothing is stored."""
    with pytest.raises(TooLarge, match=r"thing\.happened"):
        box.put(event(tenant), event(tenant, number=2, payload={"text": "ä" * 110_000}))
    assert box.rows() == []


@pytest.mark.parametrize("text", ["\0", "cut\0off", "\\\0"])
def test_an_event_with_nul_is_refused(box: Outbox, tenant: UUID, text: str) -> None:
    """C-09: PostgreSQL would store it and then could not read into it: no chain, no replay."""
    with pytest.raises(InvalidInput, match=r"thing\.happened"):
        box.put(event(tenant, payload={"texts": [{text: "a"}]}))
    assert box.rows() == []


def test_an_event_may_speak_of_nul(box: Outbox, tenant: UUID) -> None:
    box.put(event(tenant, payload={"text": r"a \u0000 is no NUL"}))
    assert len(box.rows()) == 1


def test_the_doorbell_rings_after_the_commit(
    database: Database, box: Outbox, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-09: the relay is started once, after the commit, when the events are visible."""
    seen: list[int] = []
    monkeypatch.setattr("skald.messaging.doorbell.ring", lambda: seen.append(len(box.rows())))
    with database.transaction(tenant) as tx:
        for number in (1, 2):
            outbox.publish(tx, event(tenant, number=number))
        assert seen == []
    assert seen == [2]


# Sending ------------------------------------------------------------------------------------------


def test_events_are_sent_once(box: Outbox, relay_database: Database, tenant: UUID) -> None:
    """Q-05: the next run does not send a published event again."""
    box.put(*(event(tenant, str(number)) for number in range(3)))
    sender = Recorder()
    assert drain(relay_database, sender).sent == 3
    assert drain(relay_database, sender).sent == 0
    assert len(sender.sent) == 3
    assert {row["status"] for row in box.rows()} == {"published"}
    assert all(row["published_at"] and row["lease_token"] is None for row in box.rows())


def test_the_envelope_arrives_as_it_was_put_in(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """W-05: the database keeps every field of the envelope."""
    given = event(tenant, causation_id=uuid4(), correlation_id="c", payload={"text": "Zündung 🔑"})
    box.put(given)
    sender = Recorder()
    drain(relay_database, sender)
    assert sender.sent == [given]


def test_events_of_one_aggregate_leave_in_order(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """C-09: only the first unsent event of an aggregate may be sent, so the order is kept."""
    box.put(*(event(tenant, target, number) for number in (1, 2, 3) for target in ("a", "b")))
    with relay_database.transaction(None) as tx:
        _, first = outbox.lease(tx, 100, MINUTE)
    assert [(e.envelope.target_id, e.envelope.payload["number"]) for e in first] == [
        ("a", 1),
        ("b", 1),
    ]
    box.make_due()
    sender = Recorder()
    drain(relay_database, sender)
    assert [number for target, number in sender.numbers if target == "a"] == [1, 2, 3]
    assert [number for target, number in sender.numbers if target == "b"] == [1, 2, 3]


def test_a_retried_head_holds_its_aggregate_back(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """C-09: no event overtakes one that waits for another attempt."""
    head = event(tenant, "a", 1)
    box.put(head, event(tenant, "a", 2), event(tenant, "b", 1))
    sender = Recorder({head.event_id: Failure("throttled", temporary=True)})
    outcome = _one_round(relay_database, sender)
    assert (outcome.sent, outcome.retried, outcome.parked) == (1, 1, 0)
    box.back_off()
    assert drain(relay_database, sender).sent == 0
    assert sender.numbers == [("b", 1)]


def test_a_parked_head_blocks_its_aggregate_alone(
    box: Outbox, relay_database: Database, tenant: UUID, other_tenant: UUID, database: Database
) -> None:
    """Q-05: a dead letter blocks its own aggregate, and no other aggregate or tenant."""
    head = event(tenant, "a", 1)
    box.put(head, event(tenant, "a", 2), event(tenant, "b", 1))
    with database.transaction(other_tenant) as tx:
        outbox.publish(tx, event(other_tenant, "a", 7))
    sender = Recorder({head.event_id: Failure("refused", temporary=False)})
    drain(relay_database, sender)
    box.make_due()
    drain(relay_database, sender)
    assert sender.numbers == [("b", 1), ("a", 7)]


def test_each_entry_is_settled_by_its_own_verdict(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """C-09: one failed entry of a batch call does not change the result of the others."""
    events = [event(tenant, target) for target in ("sent", "retried", "parked")]
    box.put(*events)
    verdicts = {
        events[1].event_id: Failure("slow down", temporary=True),
        events[2].event_id: Failure("no such queue", temporary=False),
    }
    outcome = _one_round(relay_database, Recorder(verdicts))
    assert (outcome.sent, outcome.retried, outcome.parked) == (1, 1, 1)
    states = [(box.row(e)["status"], box.row(e)["last_error"]) for e in events]
    assert states == [
        ("published", None),
        ("pending", "slow down"),
        ("failed", "no such queue"),
    ]


def test_a_run_ends_when_its_time_does(box: Outbox, relay_database: Database, tenant: UUID) -> None:
    """C-09: a relay takes nothing more when its time is up; the next run sends the rest."""
    box.put(*(event(tenant, "a", number) for number in range(3)))
    assert _one_round(relay_database, Recorder()).sent == 1
    assert Counter(row["status"] for row in box.rows()) == {"published": 1, "pending": 2}


# Racing and dying relays --------------------------------------------------------------------------


def test_racing_relays_never_send_an_event_twice(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """Q-05: while a lease holds, one relay alone sends an event, and in order."""
    box.put(*(event(tenant, f"t{target}", n) for n in range(5) for target in range(40)))
    senders = [Recorder() for _ in range(4)]
    together(*(_draining(relay_database, sender) for sender in senders))
    drain(relay_database, senders[0])  # events that a racing relay's lease hid from the others
    sent = Counter(e.event_id for sender in senders for e in sender.sent)
    assert len(sent) == 200
    assert set(sent.values()) == {1}


def _draining(database: Database, sender: Recorder) -> Callable[[], object]:
    return lambda: drain(database, sender)


def test_leases_of_two_open_transactions_do_not_overlap(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """Q-05: a relay skips the events that another claims at this moment, without a wait."""
    box.put(*(event(tenant, str(number)) for number in range(10)))
    with relay_database.transaction(None) as one, relay_database.transaction(None) as two:
        _, first = outbox.lease(one, 6, MINUTE)
        _, second = outbox.lease(two, 6, MINUTE)
    positions = [leased.position for leased in (*first, *second)]
    assert len(positions) == len(set(positions)) == 10


def test_an_event_that_commits_late_is_still_sent(
    box: Outbox, database: Database, relay_database: Database, tenant: UUID
) -> None:
    """C-09: there is no cursor, so an event with a lower position is still sent."""
    recorder = Recorder()
    with database.transaction(tenant) as tx:
        outbox.publish(tx, event(tenant, "late"))
        tx.execute("select 1")  # the position is drawn now
        box.put(event(tenant, "early"))
        drain(relay_database, recorder)
    drain(relay_database, recorder)
    assert [sent.target_id for sent in recorder.sent] == ["early", "late"]
    assert box.row(event(tenant, "late"))["position"] < box.row(event(tenant, "early"))["position"]


def test_no_later_event_overtakes_one_that_is_being_claimed(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """C-09: the head of an aggregate in an uncommitted lease still blocks it."""
    box.put(event(tenant, "a", 1), event(tenant, "a", 2))
    with relay_database.transaction(None) as one, relay_database.transaction(None) as two:
        assert len(outbox.lease(one, 10, MINUTE)[1]) == 1
        assert outbox.lease(two, 10, MINUTE)[1] == []


def test_a_relay_killed_before_it_settles_repeats_and_the_inbox_drops_the_double(
    box: Outbox, relay_database: Database, database: Database, tenant: UUID
) -> None:
    """Q-05, Q-09: a crash between send and settle sends again; consumers take effect once."""

    class Dying(Recorder):
        def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:
            super().send(events)
            raise Killed

    box.put(event(tenant))
    dying, next_one = Dying(), Recorder()
    with pytest.raises(Killed):
        drain(relay_database, dying)
    assert drain(relay_database, next_one).sent == 0, "the lease still holds"
    box.make_due()
    assert drain(relay_database, next_one).sent == 1
    effects = []
    for envelope in (*dying.sent, *next_one.sent):
        with database.transaction(tenant) as tx:
            effects.append(inbox.accept(tx, envelope, "consumer"))
    assert effects == [True, False]


def test_a_lease_lasts_as_long_as_it_says(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """Q-05: the lease is longer than any send, and ends by itself."""
    box.put(event(tenant))
    before = datetime.now(UTC)
    with relay_database.transaction(None) as tx:
        token, _ = outbox.lease(tx, 1, LEASE)
    row = box.row(event(tenant))
    assert row["lease_token"] == token
    assert before + LEASE <= row["leased_until"] <= datetime.now(UTC) + LEASE
    assert row["attempts"] == 1


def test_a_stale_token_changes_nothing(box: Outbox, relay_database: Database, tenant: UUID) -> None:
    """Q-05: a relay that was away for too long cannot settle an event that another has claimed."""
    box.put(event(tenant))
    with relay_database.transaction(None) as tx:
        stale, (old,) = outbox.lease(tx, 1, MINUTE)
    box.make_due()
    with relay_database.transaction(None) as tx:
        token, _ = outbox.lease(tx, 1, MINUTE)
    before = box.rows()
    with relay_database.transaction(None) as tx:
        outbox.finish(tx, stale, [old.position])
        outbox.retry_later(tx, stale, old, "late")
        outbox.park(tx, stale, old, "late")
    assert box.rows() == before
    assert box.rows("skald.dead_letters") == []
    with relay_database.transaction(None) as tx:
        outbox.finish(tx, token, [old.position])
    assert [row["status"] for row in box.rows()] == ["published"]


# Failures and dead letters ------------------------------------------------------------------------


def test_temporary_failures_back_off_and_end_as_dead_letter(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """V-12: waits of 100 ms to 1.6 s, doubling, with jitter; then a dead letter."""
    given = event(tenant)
    box.put(given)
    sender = Recorder({given.event_id: Failure("throttled", temporary=True)})
    for nominal in (0.1, 0.2, 0.4, 0.8, 1.6):
        before = datetime.now(UTC)
        assert _one_round(relay_database, sender).retried == 1
        after = datetime.now(UTC)
        row = box.row(given)
        assert row["status"] == "pending"
        assert before + timedelta(seconds=0.74 * nominal) < row["available_at"]
        assert row["available_at"] < after + timedelta(seconds=1.26 * nominal)
        box.make_due()
    assert _one_round(relay_database, sender).parked == 1
    assert box.row(given)["status"] == "failed"
    assert box.row(given)["attempts"] == 6


def _one_round(database: Database, sender: Recorder) -> RelayRun:
    answers = iter([True, False])
    return drain(database, sender, is_time_left=lambda: next(answers))


def test_a_backing_off_event_is_not_due(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """V-12: a relay that looks again at once does not send it."""
    given = event(tenant)
    box.put(given)
    drain(relay_database, Recorder({given.event_id: Failure("throttled", temporary=True)}))
    box.back_off()
    assert drain(relay_database, Recorder()).sent == 0
    box.make_due()
    assert drain(relay_database, Recorder()).sent == 1


def test_a_dead_letter_keeps_event_error_and_time(
    box: Outbox, relay_database: Database, tenant: UUID
) -> None:
    """V-12: a permanent error parks at the first attempt, with all that a replay needs."""
    given = event(tenant)
    box.put(given)
    before = datetime.now(UTC)
    drain(relay_database, Recorder({given.event_id: Failure("no such queue", temporary=False)}))
    (letter,) = box.rows("skald.dead_letters")
    assert letter["error"] == "no such queue"
    assert letter["event_id"] == given.event_id
    assert Envelope.model_validate(letter["envelope"]) == given
    assert before - timedelta(seconds=1) <= letter["failed_at"] <= datetime.now(UTC)
    assert box.row(given)["attempts"] == 1


# Speed --------------------------------------------------------------------------------------------


@pytest.fixture
def full_box(box: Outbox, admin: Connection[DictRow], tenant: UUID) -> Outbox:
    """An outbox in which a tenant has ten thousand published events and twenty pending ones."""
    admin.execute(
        """
        insert into skald.outbox
            (tenant_id, event_id, event_type, aggregate, correlation_id, envelope, status)
        select %s, gen_random_uuid(), 'thing.happened', 'thing:' || n, n, %s, 'published'
        from generate_series(1, 10000) as n
        """,
        (tenant, Json(event(tenant).model_dump(mode="json"))),
    )
    box.put(*(event(tenant, str(number)) for number in range(20)))
    admin.execute("analyze skald.outbox")
    return box


@pytest.mark.usefixtures("full_box")
def test_the_lease_stays_on_its_index(relay_database: Database) -> None:
    """C-09: published rows are never scanned, for any number of them."""
    with relay_database.transaction(None) as tx:
        scans = scans_of("outbox", tx, lambda: outbox.lease(tx, 100, MINUTE))
    assert [node["Node Type"] for node in scans if node["Node Type"] == "Seq Scan"] == []
    candidates = next(node for node in scans if node.get("Alias") == "candidate")
    assert candidates["Index Name"] == "outbox_due"
    assert candidates["Actual Rows"] <= 20


def test_a_chain_is_found_without_a_look_at_other_events(
    full_box: Outbox, database: Database
) -> None:
    """W-08: row-level security keeps some conditions from indexes, but not those of a chain."""
    tenant = full_box.tenant
    first = event(tenant, "first")
    second = first.caused("thing.followed", {})
    full_box.put(first, second)
    with database.transaction(tenant) as tx:
        scans = [
            *scans_of("outbox", tx, lambda: find_chain(tx, second.event_id)),
            *scans_of(
                "outbox", tx, lambda: timeline._events(tx, {"tenant": tenant, "saga": first.chain})
            ),
        ]
    assert sum(map(rows_read, scans)) <= 6
