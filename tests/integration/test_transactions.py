"""Q-03, G-01: a transaction is atomic, and connections survive a frozen environment."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.conftest import Servers
from tests.integration.support import counting_round_trips, event, round_trips

from skald.errors import Unavailable
from skald.messaging import inbox
from skald.postgres import ConditionalTransaction, Database, Transaction, pipeline, pool

COUNT: LiteralString = "select count(*) from skald.inbox where tenant_id = %s"
NOTE: LiteralString = (
    "insert into skald.inbox (tenant_id, event_id, consumer) values (%s, gen_random_uuid(), 'test')"
)


class Broken(Exception):
    """The error that a test raises in the middle of a transaction."""


@pytest.fixture
def single(servers: Servers) -> Iterator[Database]:
    """A pool of one connection with a short timeout."""
    database = Database(servers.app_dsn, size=1, wait_seconds=0.05)
    yield database
    database.close()


def rows(database: Database, tenant: UUID) -> int:
    with database.transaction(tenant) as tx:
        return int(tx.value(COUNT, (tenant,)))


def test_commits_at_the_end_of_the_block(database: Database, tenant: UUID) -> None:
    """Q-03: `run_in_tx` commits at the end of its block."""
    with database.transaction(tenant) as tx:
        inbox.accept(tx, event(tenant), "test")
        assert rows(database, tenant) == 0, "it is invisible before the commit"
    assert rows(database, tenant) == 1


def test_rolls_back_on_error(database: Database, tenant: UUID) -> None:
    """Q-03: an error in the block rolls back and reaches the caller."""

    def accept_and_break() -> None:
        with database.transaction(tenant) as tx:
            inbox.accept(tx, event(tenant), "test")
            raise Broken

    with pytest.raises(Broken):
        accept_and_break()
    assert rows(database, tenant) == 0


def test_after_commit_runs_once_and_only_after(database: Database, tenant: UUID) -> None:
    """C-09: a hook runs after the commit, and one name runs once."""
    seen: list[int] = []
    with database.transaction(tenant) as tx:
        inbox.accept(tx, event(tenant), "test")
        for _ in range(3):
            tx.after_commit("look", lambda: seen.append(rows(database, tenant)))
        assert seen == []
    assert seen == [1]


def test_after_commit_never_runs_for_a_rollback(database: Database, tenant: UUID) -> None:
    """C-09: a transaction that rolls back runs no hook."""
    seen: list[int] = []

    def register_and_break() -> None:
        with database.transaction(tenant) as tx:
            tx.after_commit("look", lambda: seen.append(1))
            raise Broken

    with pytest.raises(Broken):
        register_and_break()
    assert seen == []


def test_after_commit_does_not_hold_the_transaction(single: Database, tenant: UUID) -> None:
    """C-09: the connection is back in the pool before the hooks run."""
    seen: list[int] = []
    with single.transaction(tenant) as tx:
        tx.after_commit("look", lambda: seen.append(rows(single, tenant)))
    assert seen == [0]


# Round trips --------------------------------------------------------------------------------------


def test_a_transaction_begins_with_its_first_statement(database: Database, tenant: UUID) -> None:
    """G-01: begin and settings cost no round trip of their own."""
    assert round_trips(database.transaction(tenant), lambda tx: tx.value(COUNT, (tenant,))) == 2
    assert round_trips(database.transaction(tenant), lambda _: None) == 0, "nothing was done"


def test_a_deferred_statement_travels_with_the_next_one(database: Database, tenant: UUID) -> None:
    """G-01: a deferred statement is sent with the next statement, or with the commit."""

    def note_and_count(tx: Transaction) -> None:
        tx.later(NOTE, (tenant,))
        assert tx.value(COUNT, (tenant,)) == 1
        tx.later(NOTE, (tenant,))

    assert round_trips(database.transaction(tenant), note_and_count) == 2
    assert rows(database, tenant) == 2


def test_an_error_of_a_deferred_statement_undoes_the_transaction(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: the commit raises it at the latest, and nothing of the transaction stays."""
    consequences: list[str] = []

    def note_for_another() -> None:
        with database.transaction(tenant) as tx:
            inbox.accept(tx, event(tenant), "test")
            tx.after_commit("tell", lambda: consequences.append("told"))
            tx.later(NOTE, (other_tenant,))
            tx.later(NOTE, (tenant,))

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        note_for_another()
    assert rows(database, tenant) == 0
    assert consequences == []


@pytest.mark.parametrize("is_open", [False, True])
def test_an_ignored_error_commits_nothing(
    database: Database, tenant: UUID, other_tenant: UUID, is_open: bool
) -> None:
    """Q-03: PostgreSQL answers the commit of a failed transaction with a rollback; it is raised."""

    def pass_over_an_error() -> None:
        with database.transaction(tenant) as tx:
            if is_open:
                inbox.accept(tx, event(tenant), "test")
            tx.later(NOTE, (other_tenant,))
            with suppress(psycopg.Error):
                tx.value(COUNT, (tenant,))

    with pytest.raises(psycopg.errors.InFailedSqlTransaction, match="an error was passed over"):
        pass_over_an_error()
    assert rows(database, tenant) == 0


def test_a_transaction_of_one_statement_takes_one_round_trip(
    database: Database, tenant: UUID
) -> None:
    """G-01: begin, settings, statement and commit are one message."""
    with database.single_statement(tenant) as tx:
        with counting_round_trips(tx) as counted:
            tx.later(NOTE, (tenant,))
            assert tx.value(COUNT, (tenant,)) == 1
        assert counted == [1]
        assert rows(database, tenant) == 1, "it is committed"
        with pytest.raises(RuntimeError, match="has ended"):
            tx.value(COUNT, (tenant,))


def test_a_failed_statement_commits_nothing(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: a transaction of one statement is atomic, too."""

    def note_for_another() -> None:
        with database.single_statement(tenant) as tx:
            tx.later(NOTE, (tenant,))
            tx.execute(NOTE, (other_tenant,))

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        note_for_another()
    assert rows(database, tenant) == 0


# Conditions ---------------------------------------------------------------------------------------

HOLDS: LiteralString = "select 1"
FAILS: LiteralString = "select 1 / 0"


def test_a_condition_costs_no_round_trip(database: Database, tenant: UUID) -> None:
    """G-01: it is sent with begin and the first statement."""

    def note(tx: ConditionalTransaction) -> None:
        tx.begin_under(HOLDS)
        tx.execute(NOTE, (tenant,))
        assert tx.refusal() is None, "that is known already"

    assert round_trips(database.conditional(tenant), note) == 2
    assert rows(database, tenant) == 1


def test_a_failed_condition_stops_its_statement(single: Database, tenant: UUID) -> None:
    """Q-03: the statement does not run, and code that ignores its error commits nothing."""

    def pass_over(tx: ConditionalTransaction) -> None:
        tx.begin_under(FAILS)
        for _ in range(2):
            with suppress(psycopg.Error):
                tx.execute(NOTE, (tenant,))

    with pytest.raises(psycopg.errors.InFailedSqlTransaction), single.conditional(tenant) as tx:
        pass_over(tx)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction), single.conditional(tenant) as tx:  # noqa: PT012
        pass_over(tx)
        tx.connection.rollback()
        with suppress(psycopg.Error):
            tx.execute(NOTE, (tenant,))
        tx.later(NOTE, (tenant,))
    assert rows(single, tenant) == 0
    assert single.statistics().replaced == 0


def test_a_condition_alone_is_sent_when_its_result_is_read(
    database: Database, tenant: UUID
) -> None:
    """Q-03: at the latest the commit sends it, and raises its error."""
    with database.conditional(tenant) as tx:
        tx.begin_under(FAILS)
        assert isinstance(tx.refusal(), psycopg.errors.DivisionByZero)
        tx.undo()
    with pytest.raises(psycopg.errors.DivisionByZero), database.conditional(tenant) as tx:
        tx.begin_under(FAILS)


def test_another_error_is_no_refusal(database: Database, tenant: UUID) -> None:
    """Q-03: neither an error of the statement sent with it, nor of a later statement."""
    with pytest.raises(psycopg.errors.DivisionByZero), database.conditional(tenant) as tx:  # noqa: PT012
        tx.begin_under(HOLDS)
        with pytest.raises(psycopg.errors.DivisionByZero):
            tx.execute(FAILS)
        assert tx.refusal() is None
        tx.undo()
        tx.begin_under(HOLDS)
        tx.later(FAILS)
        tx.refusal()


def test_an_undone_transaction_leaves_nothing(database: Database, tenant: UUID) -> None:
    """Q-03: the transaction is unused again, with its tenant, and commits what comes after."""
    consequences: list[str] = []
    with database.conditional(tenant) as tx:
        with counting_round_trips(tx) as counted:
            tx.begin_under(FAILS)
            tx.after_commit("tell", lambda: consequences.append("undone"))
            with pytest.raises(psycopg.errors.DivisionByZero):
                tx.execute(NOTE, (tenant,))
            tx.later(NOTE, (tenant,))
            tx.undo()
            assert tx.is_untouched
            tx.execute(NOTE, (tenant,))
        tx.after_commit("tell", lambda: consequences.append("done"))
    assert counted == [2], "the rollback travels along"
    assert rows(database, tenant) == 1
    assert consequences == ["done"]


def test_a_query_ahead_leaves_a_transaction_untouched(database: Database, tenant: UUID) -> None:
    """G-01: it is a message of its own; it also carries the rollback of an undone transaction."""
    with database.conditional(tenant) as tx:
        tx.begin_under(FAILS)
        assert tx.refusal() is not None
        tx.undo()
        with counting_round_trips(tx) as counted:
            assert tx.ahead().value(COUNT, (tenant,)) == 0
            assert tx.is_untouched
        tx.execute(NOTE, (tenant,))
    assert counted == [1]
    assert rows(database, tenant) == 1


def test_an_undone_transaction_may_end_with_a_deferred_statement(
    single: Database, tenant: UUID
) -> None:
    """Q-03: the transaction begins again for that, and its connection stays usable."""
    with single.conditional(tenant) as tx:
        tx.begin_under(FAILS)
        assert tx.refusal() is not None
        tx.undo()
        tx.later(NOTE, (tenant,))
    assert rows(single, tenant) == 1
    assert single.statistics().replaced == 0


@pytest.mark.parametrize("is_open", [False, True])
def test_a_condition_comes_first(database: Database, tenant: UUID, is_open: bool) -> None:
    """Q-03: a transaction that has begun cannot get a condition."""
    with database.conditional(tenant) as tx:
        if is_open:
            tx.value(COUNT, (tenant,))
        else:
            tx.later(NOTE, (tenant,))
        with pytest.raises(RuntimeError, match="has begun"):
            tx.begin_under(HOLDS)


def test_a_lost_connection_is_no_refusal(
    single: Database, tenant: UUID, admin: Connection[DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-01: the condition is sent again, on the new connection."""
    lose_unnoticed(single, tenant, admin, monkeypatch)
    with single.conditional(tenant) as tx:
        tx.begin_under(NOTE, (tenant,))
        assert tx.refusal() is None
    assert rows(single, tenant) == 1


# Messages -----------------------------------------------------------------------------------------


def test_a_message_may_be_larger_than_the_network_buffers(database: Database, tenant: UUID) -> None:
    """G-01: without reads during a write, both sides would wait for each other."""
    megabyte = "x" * 2**20
    with database.transaction(tenant) as tx:
        for _ in range(32):
            tx.later("select %s || 'y'", (megabyte,))
        assert tx.value("select length(%s)", (megabyte,)) == 2**20


def test_what_is_used_often_is_prepared(database: Database, tenant: UUID) -> None:
    """G-01: a connection plans a statement once, also when it is twice in one message."""
    with database.transaction(tenant) as tx:
        for _ in range(pool.PREPARE_AFTER):
            tx.value(COUNT, (tenant,))
        tx.later(COUNT, (tenant,))
        assert tx.value(COUNT, (tenant,)) == 0
        assert kept_plans(tx, COUNT) == 1


def test_a_plan_that_an_error_prevented_is_made_later(
    single: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """G-01: after an error the server ignores the rest of a message, and prepares nothing of it."""

    def note_for_another() -> None:
        with single.transaction(tenant) as tx:
            tx.later(NOTE, (other_tenant,))
            tx.value(COUNT, (tenant,))

    for _ in range(2 * pool.PREPARE_AFTER):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            note_for_another()
    with single.transaction(tenant) as tx:
        assert tx.value(COUNT, (tenant,)) == 0
        assert kept_plans(tx, COUNT) == 1


def test_statements_used_once_are_not_kept(
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-01: a connection keeps a limited number of plans, for statements that are repeated."""
    monkeypatch.setattr(pipeline, "PLANS", 20)
    with database.transaction(tenant) as tx:
        for number in range(50):
            tx.execute(f"select {number}")
        for _ in range(pool.PREPARE_AFTER + 1):
            tx.value(COUNT, (tenant,))
        assert kept_plans(tx, COUNT) == 1
        for number in range(50):
            for _ in range(pool.PREPARE_AFTER + 1):
                tx.execute(f"select {number}")
        assert kept_plans(tx, "%") == 20


def kept_plans(tx: Transaction, query: str) -> int:
    """Return how many of our plans are kept for a query like this."""
    return int(
        tx.value(
            "select count(*) from pg_prepared_statements"
            " where name like 'statement%%' and statement like %s",
            (query.replace("%s", "$1"),),
        )
    )


# Lost connections ---------------------------------------------------------------------------------


def kill(admin: Connection[DictRow], pid: int) -> None:
    admin.execute("select pg_terminate_backend(%s, 5000)", (pid,))


def lose_unnoticed(
    single: Database, tenant: UUID, admin: Connection[DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Close the pool's only connection without the pool's knowledge."""
    with single.transaction(tenant) as tx:
        pid = tx.value("select pg_backend_pid()")
    kill(admin, pid)
    monkeypatch.setattr(pool._Idle, "is_fit", lambda _, **__: True)


def test_a_connection_lost_unnoticed_is_replaced_before_any_write(
    single: Database, tenant: UUID, admin: Connection[DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-01: a connection that dies between check and use costs a second try, not the request."""
    lose_unnoticed(single, tenant, admin, monkeypatch)
    assert rows(single, tenant) == 0
    assert single.statistics().replaced == 1


def test_a_call_on_a_lost_connection_is_made_once_more(
    single: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-01: a call is its own transaction and safe to repeat."""
    backend = "select pg_backend_pid() where $1::uuid is not null"
    ((pid,),) = single.call(tenant, backend)
    kill(admin, pid)
    ((other,),) = single.call(tenant, backend)
    assert other != pid
    assert single.statistics().replaced == 1
    assert single.call(tenant, backend) == [(other,)], "the pool has the other by now"


def test_a_call_lost_for_the_second_time_fails(
    single: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-01: a call is repeated once only, and the pool drops the broken connection."""
    suicide = "select pg_terminate_backend(pg_backend_pid()) where $1::uuid is not null"
    with pytest.raises(psycopg.OperationalError):
        single.call(tenant, suicide)
    assert single.statistics().idle == 0
    assert single.statistics().active == 0
    assert single.call(tenant, "select $1::uuid") == [(tenant,)]


def test_what_a_call_may_not_do_leaves_its_connection_usable(
    single: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: the caller gets PostgreSQL's error itself."""
    note = "insert into skald.inbox (tenant_id, event_id, consumer) values ($1, $2, 'test')"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        single.call(tenant, note, uuid4())
    assert single.call(
        tenant, "select $1::uuid, $2::bytea, $3::bytea[], $4::bigint", b"\0", [b"\1"], 3
    ) == [(tenant, b"\0", [b"\1"], 3)]
    assert single.statistics().replaced == 0


@pytest.mark.parametrize("behind_pooler", [False, True])
def test_a_call_in_a_transaction_is_part_of_it(
    servers: Servers, tenant: UUID, *, behind_pooler: bool
) -> None:
    """Q-03: it sees the earlier changes of the transaction, with the same values."""
    database = Database(servers.app_dsn, behind_pooler=behind_pooler)
    told = "select count(*), $2::text[], $3::bytea from skald.inbox where tenant_id = $1"
    for _ in range(2 * pool.PREPARE_AFTER):
        with suppress(Broken), database.transaction(tenant) as tx:
            tx.later(NOTE, (tenant,))
            assert tx.call(told, ["a", "b"], b"\0") == [(1, ["a", "b"], b"\0")]
            raise Broken
    assert rows(database, tenant) == 0
    database.close()


def test_nothing_that_may_have_been_committed_is_repeated(
    single: Database, tenant: UUID, admin: Connection[DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-01: a connection lost during the commit fails the request, so no effect is doubled."""
    lose_unnoticed(single, tenant, admin, monkeypatch)

    def note() -> None:
        with single.single_statement(tenant) as tx:
            tx.execute(NOTE, (tenant,))

    with pytest.raises(psycopg.OperationalError):
        note()
    assert rows(single, tenant) == 0, "the pool has another connection by now"


def test_a_connection_broken_while_idle_is_replaced_before_use(
    single: Database, tenant: UUID, admin: Connection[DictRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-09: a thawed environment whose connection died works at once and loses nothing."""
    with single.transaction(tenant) as tx:
        pid = tx.value("select pg_backend_pid()")
    kill(admin, pid)
    later = time.time() + 2 * pool.PROBE_AFTER_SECONDS
    monkeypatch.setattr("skald.postgres.pool.time.time", lambda: later)
    with single.transaction(tenant) as tx:
        assert tx.value("select pg_backend_pid()") != pid
        inbox.accept(tx, event(tenant), "test")
    assert rows(single, tenant) == 1


def test_an_idle_connection_is_used_again(single: Database, tenant: UUID) -> None:
    """G-01: connections are reused, not opened for each transaction."""
    pids = set()
    for _ in range(3):
        with single.transaction(tenant) as tx:
            pids.add(tx.value("select pg_backend_pid()"))
    assert len(pids) == 1


def test_a_connection_that_breaks_in_use_is_not_pooled(
    single: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """Q-09: the transaction in which it broke fails, the next one does not."""

    def write_over_a_killed_connection() -> None:
        with single.transaction(tenant) as tx:
            inbox.accept(tx, event(tenant), "test")
            kill(admin, tx.value("select pg_backend_pid()"))
            tx.execute("select 1")

    with pytest.raises(psycopg.OperationalError):
        write_over_a_killed_connection()
    assert rows(single, tenant) == 0


def test_an_exhausted_pool_is_unavailable(single: Database, tenant: UUID) -> None:
    """G-01, G-16: without a free connection the answer is 503 with `Retry-After`, soon."""
    with single.transaction(tenant):
        with pytest.raises(Unavailable, match="all 1 database connections are busy") as refused:
            rows(single, tenant)
        assert int(refused.value.headers["Retry-After"]) > 0
    assert rows(single, tenant) == 0, "its slot is free again"


def test_timeouts_are_set(database: Database, tenant: UUID) -> None:
    """G-01: no statement, lock or forgotten transaction holds a connection forever."""
    with database.transaction(tenant) as tx:
        found = tx.execute(
            "select current_setting('statement_timeout') as statement,"
            "       current_setting('lock_timeout') as lock,"
            "       current_setting('idle_in_transaction_session_timeout') as idle"
        ).fetchone()
    assert found == {"statement": "30s", "lock": "10s", "idle": "1min"}


def test_no_statement_is_prepared_with_a_pooler(servers: Servers, tenant: UUID) -> None:
    """G-01: prepared statements do not survive a transaction pooler."""
    database = Database(servers.app_dsn, behind_pooler=True)
    with database.transaction(tenant) as tx:
        for _ in range(10):
            tx.value(COUNT, (tenant,))
        assert tx.value("select count(*) from pg_prepared_statements") == 0
    database.close()


def test_a_transaction_without_tenant_has_none_to_name(database: Database) -> None:
    """Q-03: code that needs a tenant fails before it writes."""
    with database.transaction(None) as tx, pytest.raises(LookupError, match="no tenant"):
        inbox.accept(tx, event(UUID(int=1)), "test")
