"""C-08, W-01: a claim sent with the work's first statement gives the same promises as an earlier
one.

The tests of both ways are in `test_transaction.py` and `test_http.py`, which run twice.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.errors import LockNotAvailable, UniqueViolation
from psycopg.rows import DictRow
from tests.integration.conftest import Servers
from tests.integration.idempotency import orders
from tests.integration.idempotency.conftest import Shop
from tests.integration.idempotency.orders import place
from tests.integration.support import event, round_trips, wait_until_blocked

from skald.errors import Conflict
from skald.idempotency import InUse, KeyReused, Operation, Outcome, invalidate, records
from skald.messaging import outbox
from skald.postgres import ConditionalTransaction, Database, Transaction, pool

type Count = Callable[[UUID], int]
type Work = Callable[[Transaction], dict[str, Any]]

ORDER = Operation("order")
LOCK: LiteralString = "select pg_advisory_xact_lock(%s)"


class Clerk:
    """Places orders under one key in its own transactions, and keeps how far it came."""

    def __init__(self, database: Database, tenant: UUID) -> None:
        self.database = database
        self.tenant = tenant
        self.begun = 0
        self.done = 0

    def __call__(self, work: Work | None = None, payload: object = "lamp") -> Outcome:
        with self.database.conditional(self.tenant) as tx:
            return self.ask(tx, work, payload)

    def ask(
        self, tx: ConditionalTransaction, work: Work | None = None, payload: object = "lamp"
    ) -> Outcome:
        return ORDER.run_rows_first(
            tx, lambda: self._work(tx, work or _place), key="k", payload=payload
        )

    def _work(self, tx: Transaction, work: Work) -> dict[str, Any]:
        self.begun += 1
        result = work(tx)
        self.done += 1
        return result


def _place(tx: Transaction) -> dict[str, Any]:
    return place(tx, "lamp").model_dump()


@pytest.fixture
def clerk(database: Database, tenant: UUID) -> Clerk:
    return Clerk(database, tenant)


@pytest.fixture
def asked_before(clerk: Clerk) -> Outcome:
    """A clerk whose key was answered already. It counts from zero again."""
    answer = clerk()
    clerk.begun = clerk.done = 0
    return answer


# Duplicates ---------------------------------------------------------------------------------------


def test_a_duplicate_does_nothing(clerk: Clerk, asked_before: Outcome, count_orders: Count) -> None:
    """W-01: the work of a duplicate runs until its first statement, which does not run."""
    assert clerk() == Outcome(asked_before.result, replayed=True)
    assert (clerk.begun, clerk.done) == (1, 0)
    assert count_orders(clerk.tenant) == 1


def test_another_payload_does_nothing(
    clerk: Clerk, asked_before: Outcome, count_orders: Count
) -> None:
    """W-01: it gets 422, and no statement of the work has run."""
    with pytest.raises(KeyReused):
        clerk(payload="table")
    assert (clerk.done, count_orders(clerk.tenant)) == (0, 1)


def test_hooks_and_events_of_a_duplicate_are_dropped(clerk: Clerk, asked_before: Outcome) -> None:
    """C-09: a duplicate runs no after-commit hook and publishes no event."""
    consequences: list[str] = []

    def work(tx: Transaction) -> dict[str, Any]:
        outbox.publish(tx, event(tx.tenant_id, event_type="in.vain"))
        tx.after_commit("tell", lambda: consequences.append("told"))
        return _place(tx)

    assert clerk(work).replayed
    assert consequences == []
    with clerk.database.transaction(clerk.tenant) as tx:
        assert tx.value("select count(*) from skald.outbox where event_type = 'in.vain'") == 0


@pytest.mark.parametrize("goes_on", [False, True], ids=["returns", "goes-on"])
def test_a_handler_that_ignores_errors_cannot_ignore_this_one(
    clerk: Clerk, asked_before: Outcome, count_orders: Count, *, goes_on: bool
) -> None:
    """C-08: if the work ignores the error, the caller gets the first answer; nothing commits."""

    def work(tx: Transaction) -> dict[str, Any]:
        with suppress(Exception):
            _place(tx)
        if goes_on:
            with suppress(Exception):
                _place(tx)
        return {"number": 99}

    assert clerk(work) == Outcome(asked_before.result, replayed=True)
    assert (clerk.done, count_orders(clerk.tenant)) == (1, 1)


def test_a_handler_that_raises_something_else_cannot_hide_it(
    clerk: Clerk, asked_before: Outcome
) -> None:
    """C-08: an error that a handler raises because of the refusal is not the error of the work."""

    def work(tx: Transaction) -> dict[str, Any]:
        try:
            return _place(tx)
        except psycopg.Error as error:
            raise Conflict("out of stock") from error

    assert clerk(work) == Outcome(asked_before.result, replayed=True)


def test_a_handler_that_rolls_back_by_itself_cannot_commit(
    clerk: Clerk, asked_before: Outcome, count_orders: Count
) -> None:
    """C-08: after its own rollback the transaction is valid, and it still cannot commit."""

    def work(tx: Transaction) -> dict[str, Any]:
        with suppress(psycopg.Error):
            _place(tx)
        tx.connection.rollback()
        return _place(tx)

    assert clerk(work) == Outcome(asked_before.result, replayed=True)
    assert count_orders(clerk.tenant) == 1


def test_a_savepoint_is_no_way_around(
    clerk: Clerk, asked_before: Outcome, count_orders: Count
) -> None:
    """C-08: the claim comes before the savepoint, so a rollback to it does not undo the refusal."""

    def work(tx: Transaction) -> dict[str, Any]:
        with suppress(psycopg.Error):
            tx.execute("savepoint here")
        with suppress(psycopg.Error):
            tx.execute("rollback to here")
        return _place(tx)

    assert clerk(work) == Outcome(asked_before.result, replayed=True)
    assert count_orders(clerk.tenant) == 1


def test_a_savepoint_of_the_works_own_is_one(clerk: Clerk, count_orders: Count) -> None:
    """C-08: a rollback to a savepoint of the work keeps the claim."""

    def work(tx: Transaction) -> dict[str, Any]:
        tx.execute("savepoint here")
        with suppress(psycopg.DataError):
            tx.execute("select 1 / 0")
        tx.execute("rollback to here")
        return _place(tx)

    assert [clerk(work).replayed for _ in range(2)] == [False, True]
    assert count_orders(clerk.tenant) == 1


def test_a_duplicate_that_refuses_before_its_rows_gets_the_first_answer(
    clerk: Clerk, asked_before: Outcome
) -> None:
    """W-01: the stored answer is returned, not the error that the work would raise today."""

    def work(_: Transaction) -> dict[str, Any]:
        raise Conflict("too late")

    assert clerk(work) == Outcome(asked_before.result, replayed=True)


def test_a_duplicate_without_rows_gets_the_first_answer(clerk: Clerk, count_orders: Count) -> None:
    """W-01: if the work has no statement, the claim is sent after the work."""
    answers = [clerk(lambda _: {"drawn": uuid4().hex}) for _ in range(2)]
    assert [answer.replayed for answer in answers] == [False, True]
    assert answers[0].result == answers[1].result
    assert (clerk.begun, clerk.done) == (2, 2)


def test_a_duplicate_with_rows_for_the_commit_alone_leaves_none(clerk: Clerk) -> None:
    """W-01: a duplicate does not commit a statement that is sent together with the commit."""

    def work(tx: Transaction) -> dict[str, Any]:
        outbox.publish(tx, event(tx.tenant_id, event_id=uuid4(), event_type="order.placed"))
        return {}

    assert [clerk(work).replayed for _ in range(2)] == [False, True]
    with clerk.database.transaction(clerk.tenant) as tx:
        assert orders.orders(tx) == 1


# At the same time ---------------------------------------------------------------------------------


def test_in_flight_is_waited_for_once(
    clerk: Clerk, count_orders: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-01: a duplicate gets its refusal after one lock timeout, not after two."""

    def refused_after() -> float:
        begun = time.monotonic()
        with pytest.raises(InUse) as refusal:
            clerk()
        assert int(refusal.value.headers["Retry-After"]) > 0
        return time.monotonic() - begun

    with clerk.database.conditional(clerk.tenant) as tx:
        clerk.ask(tx)
        monkeypatch.setattr(pool, "LOCK_TIMEOUT", "1s")
        # The machine may stop this process too, but not at each attempt.
        assert any(1 <= refused_after() < 2 for _ in range(5))
    assert (clerk().replayed, count_orders(clerk.tenant)) == (True, 1)


def test_a_lock_the_work_waits_for_is_not_the_keys(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-01: a lock timeout of the work's first statement is an error of the work, not the claim."""

    def work(tx: Transaction) -> dict[str, Any]:
        tx.execute(LOCK, (1,))
        return {}

    with clerk.database.conditional(clerk.tenant) as tx:
        tx.execute(LOCK, (1,))
        monkeypatch.setattr(pool, "LOCK_TIMEOUT", "100ms")
        with pytest.raises(LockNotAvailable):
            clerk(work)
    assert (clerk.begun, clerk.done) == (1, 0)
    assert not clerk(work).replayed


def test_a_duplicate_of_what_rolls_back_works_once(
    clerk: Clerk, admin: Connection[DictRow], count_orders: Count, pool: ThreadPoolExecutor
) -> None:
    """W-01: the duplicate waits ahead of its first statement, then the work continues."""
    with pytest.raises(Conflict), clerk.database.conditional(clerk.tenant) as tx:  # noqa: PT012
        clerk.ask(tx)
        clerk.begun = clerk.done = 0
        second = pool.submit(clerk)
        wait_until_blocked(admin)
        raise Conflict("no")
    assert not second.result().replayed
    assert (clerk.begun, clerk.done) == (1, 1)
    assert count_orders(clerk.tenant) == 1


def test_a_key_that_becomes_free_in_the_middle_is_claimed(
    clerk: Clerk, asked_before: Outcome, count_orders: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-02: a record blocks the first statement and is then deleted; the work starts again."""
    _vanishing(clerk.database, monkeypatch)
    consequences: list[int] = []

    def work(tx: Transaction) -> dict[str, Any]:
        tell = partial(consequences.append, clerk.begun)
        tx.after_commit(f"tell {clerk.begun}", tell)
        return _place(tx)

    assert not clerk(work).replayed
    assert (clerk.begun, clerk.done) == (2, 1)
    assert count_orders(clerk.tenant) == 2
    assert consequences == [2], "those of the work that was done"


def test_a_route_may_be_begun_again(
    shop: Shop,
    database: Database,
    count_orders: Count,
    tenant: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W-03: a route starts again too, because the claim comes before all of its work."""
    monkeypatch.setattr(orders.Way, "rows_first", True)
    assert shop("lamp", "k").body["number"] == 1
    _vanishing(database, monkeypatch)
    again = shop("lamp", "k")
    assert (again.status, again.body["number"]) == (201, 2)
    assert count_orders(tenant) == 2


def _vanishing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete a record at the moment when it is read for the first time."""
    find = records.find
    found: list[int] = []

    def vanished(tx: Transaction, name: records.Name) -> Any:
        if not found:
            with database.transaction(tx.tenant_id) as other:
                found.append(invalidate(other, "k"))
        return find(tx, name)

    monkeypatch.setattr(records, "find", vanished)


# Failures -----------------------------------------------------------------------------------------


def test_a_failing_first_statement_is_the_works_own(clerk: Clerk) -> None:
    """C-08: the caller gets its error, the work does not start again, and the key is free."""

    def work(tx: Transaction) -> dict[str, Any]:
        tx.execute(
            "insert into skald.inbox (tenant_id, event_id, consumer)"
            " select %s, %s, 'twice' from generate_series(1, 2)",
            (tx.tenant_id, uuid4()),
        )
        return {}

    with pytest.raises(UniqueViolation):
        clerk(work)
    assert (clerk.begun, clerk.done) == (1, 0)
    assert not clerk().replayed


def test_a_refusal_before_the_first_statement_frees_the_key(clerk: Clerk) -> None:
    """C-08: the claim is sent before the refusal is raised, and rolls back with it."""

    def work(_: Transaction) -> dict[str, Any]:
        raise Conflict("too early")

    with pytest.raises(Conflict):
        clerk(work)
    assert not clerk().replayed


def test_a_lost_connection_takes_the_claim_along(
    servers: Servers,
    tenant: UUID,
    admin: Connection[DictRow],
    monkeypatch: pytest.MonkeyPatch,
    count_orders: Count,
) -> None:
    """G-01: on the new connection the claim is the first statement again."""
    database = Database(servers.app_dsn, size=1)
    clerk = Clerk(database, tenant)
    monkeypatch.setattr(pool._Idle, "is_fit", lambda _, **__: True)
    for replayed in (False, True):
        with database.transaction(tenant) as tx:
            pid = tx.value("select pg_backend_pid()")
        admin.execute("select pg_terminate_backend(%s, 5000)", (pid,))
        assert clerk().replayed == replayed
    assert count_orders(tenant) == 1
    assert database.statistics().replaced == 2
    database.close()


def test_a_connection_is_fit_after_a_replay(servers: Servers, tenant: UUID) -> None:
    """G-01: neither the error of a duplicate nor the answer of a key in use costs a connection."""
    database = Database(servers.app_dsn, size=1)
    clerk = Clerk(database, tenant)
    assert [clerk().replayed for _ in range(5)] == [False, True, True, True, True]
    with pytest.raises(KeyReused):
        clerk(payload="table")
    assert database.statistics().replaced == 0
    database.close()


# Transactions that have begun ---------------------------------------------------------------------


def test_in_a_transaction_that_has_begun_the_claim_comes_first(
    clerk: Clerk, asked_before: Outcome, count_orders: Count
) -> None:
    """C-08: a rollback would undo statements of other work, so the claim comes first."""
    with clerk.database.conditional(clerk.tenant) as tx:
        outbox.publish(tx, event(clerk.tenant, event_id=uuid4(), event_type="order.placed"))
        assert clerk.ask(tx).replayed
    assert clerk.begun == 0
    assert count_orders(clerk.tenant) == 2


def test_keys_within_keys(clerk: Clerk, count_orders: Count) -> None:
    """C-08: a transaction has two claims; the outer one is sent before the inner one."""
    inner = Operation("part")

    def work(tx: Transaction) -> dict[str, Any]:
        assert isinstance(tx, ConditionalTransaction)
        answer = inner.run_rows_first(tx, lambda: _place(tx), key=uuid4().hex, payload=None)
        return answer.result

    assert [clerk(work).replayed for _ in range(2)] == [False, True]
    assert count_orders(clerk.tenant) == 1


def test_work_without_rows_takes_no_more_round_trips_than_before(
    database: Database, tenant: UUID
) -> None:
    """C-08: the claim and the answer take as many round trips as with a claim that comes first."""
    clerk = Clerk(database, tenant)

    def ask(tx: ConditionalTransaction) -> Outcome:
        return clerk.ask(tx, lambda _: {})

    assert [round_trips(database.conditional(tenant), ask) for _ in range(2)] == [2, 2]
