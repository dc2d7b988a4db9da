"""Q-10: attacks by an SQL statement that bypasses the app's code. None gets another tenant's data.

The app's role sets its tenant itself (see `test_only_the_kernel_names_the_tenant` in the unit
tests), so an attacker who sets the tenant has all rights of the app. These tests try every other
attack.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, LiteralString, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.batches import Fleet
from tests.integration.conftest import Servers
from tests.integration.support import Client, event

from skald.knowledge.entries import NewEntry
from skald.knowledge.store import add
from skald.messaging import outbox
from skald.postgres import Database, Transaction
from skald.postgres.pipeline import PipelinedConnection
from skald.saga import SagaLog

MARK = "zirkon"
"""A word in every row of tenant A."""


class Retreat(Exception):
    """Raised to roll an attack back."""


@dataclass(frozen=True)
class Ids:
    """Ids that an attacker may know: those of a tenant, or ids that do not exist."""

    tenant: UUID
    batch: UUID
    event: UUID
    position: int
    letter: int

    def of(self, attack: str) -> str:
        return attack.format(**vars(self))

    def hidden(self, outcome: str) -> str:
        """Return an outcome without these ids, so that two outcomes can be compared."""
        for value in (self.tenant, self.batch, self.event):
            outcome = outcome.replace(str(value), "…")
        return outcome


@pytest.fixture(scope="module")
def victim(database: Database, admin: Connection[DictRow]) -> Ids:
    """Tenant A. Each of its rows contains the mark."""
    tenant = uuid4()
    fleet = Fleet(database, tenant)
    batch = fleet.completed(f"{MARK}.log", report={"charts": {}, "verdict": MARK})
    happened = event(tenant, MARK, payload={"mark": MARK}, correlation_id=MARK)
    with database.transaction(tenant) as tx:
        tx.execute("update batches.batches set name = %s", (MARK,))
        outbox.publish(tx, happened)
        SagaLog(tx, MARK).run_step("step", lambda: {"mark": MARK})
        add(tx, [NewEntry(key=MARK, kind="error_code", title=MARK, text=MARK)])
        tx.execute(
            "insert into skald.dead_letters (tenant_id, event_id, source, envelope, error)"
            " select tenant_id, event_id, 'test', envelope, %s from skald.outbox",
            (MARK,),
        )
    numbers = admin.execute(
        "select position, dead_letter_id as letter from skald.outbox join skald.dead_letters"
        " using (tenant_id, event_id) where tenant_id = %s",
        (tenant,),
    ).fetchone()
    assert numbers is not None
    return Ids(tenant, batch, happened.event_id, **numbers)


@pytest.fixture
def unknown() -> Ids:
    """Ids that do not exist."""
    return Ids(uuid4(), uuid4(), uuid4(), 2**40, 2**40 + 1)


def outcome(tx: Transaction, attack: LiteralString) -> str:
    """Run an attack and return its whole outcome: rows, counts, messages and their details."""
    tx.execute("select")
    cursor = cast(PipelinedConnection, tx.connection).cursor()
    try:
        if attack.startswith("copy"):
            with cursor.copy(attack) as copied:
                return repr([bytes(line) for line in copied])
        cursor.execute(attack)
        found: list[Any] = []
        while True:
            found += cursor.fetchall() if cursor.description else [cursor.rowcount]
            if not cursor.nextset():
                return repr(found)
    except psycopg.Error as error:
        return repr([error.sqlstate, str(error)])


def attempt(database: Database, tenant: UUID | None, attack: LiteralString) -> str:
    """Run an attack as a tenant, or without one, and roll it back."""
    with suppress(Retreat), database.transaction(tenant) as tx:
        got = outcome(tx, attack)
        raise Retreat
    return got


# Attacks without known ids ------------------------------------------------------------------------

BLIND: dict[str, LiteralString] = {
    "always true": "select * from batches.batches where true or tenant_id is not null",
    "union": "select name from batches.batches union all select envelope::text from skald.outbox"
    " union all select document::text from batches.reports",
    "outer join": "select * from batches.files as f full join batches.batches as b on true",
    "sample": "select * from batches.batches tablesample system (100)",
    "lock": "select * from batches.batches for key share",
    "update returning": "update batches.batches set name = name returning *",
    "delete returning": "delete from batches.diagnoses returning *",
    "merge": "merge into batches.batches as b using (select 1) as s on true"
    " when matched then update set name = b.name returning b.*",
    "view of ours": "select * from grading.newest_rubrics",
    "view of mine": "create temp view mine as select * from batches.batches; select * from mine",
    "function": "create function public.mine() returns setof batches.batches"
    " language sql as 'select * from batches.batches'; select * from public.mine()",
    "definer": "create function pg_temp.mine() returns setof batches.batches security definer"
    " language sql as 'select * from batches.batches'; select * from pg_temp.mine()",
    "block": "do $$ begin raise exception '%', (select json_agg(b) from batches.batches b); end $$",
    "sql as text": "select * from ts_stat('select words from skald.knowledge_embeddings')",
    "sql to xml": "select query_to_xml('select * from batches.batches', true, true, '')",
    "door of keys": "select * from skald.authenticate('')",
    "door of searches": "select * from skald.search_knowledge(skald.current_tenant(), '{}', null,"
    " null, 'zirkon', '{}', null, null, '{}', 20, 20, 1, 1)",
    "cast error": "select 1 from batches.batches where name::integer = 0",
    "constraint error": "update batches.batches set total_files = -1",
    "copy": "copy batches.batches to stdout",
    "copy of a query": "copy (select * from skald.outbox) to stdout",
    "copy to a program": "copy batches.batches to program 'cat'",
    "file": "select pg_read_file('postgresql.conf')",
    "plan": "explain (analyze, verbose) select * from batches.batches",
    "statistics": "select * from pg_stats where schemaname in ('skald', 'batches')",
    "raw statistics": "select * from pg_statistic",
    "sessions": "select query from pg_stat_activity",
    "statements": "select * from pg_prepared_statements",
    "sequence": "select last_value from skald.outbox_position_seq",
    "sequence set": "select setval('skald.outbox_position_seq', 1)",
    "sequence view": "select pg_sequence_last_value('skald.outbox_position_seq'::regclass)",
    "large objects": "select lo_get(oid) from pg_largeobject_metadata",
    "pages of large objects": "select * from pg_largeobject",
    "row security off": "set local row_security = off; select * from batches.batches",
    "migrator": "set local role skald_migrator; select * from batches.batches",
    "relay": "set local role skald_relay; select * from skald.outbox",
    "superuser": "set session authorization postgres; select * from batches.batches",
    "reset": "reset app.current_tenant; select * from batches.batches",
    "reset all": "reset all; select * from batches.batches",
    "discard": "discard plans; select * from batches.batches",
    "no tenant": "set local app.current_tenant = ''; select * from batches.batches",
    "any tenant": "set local app.current_tenant = '%'; select * from batches.batches",
    "default tenant": "set local app.current_tenant = default; select * from batches.batches",
    "trigger": "create trigger mine after insert on batches.batches"
    " for each row execute function batches.note_progress()",
    "policy": "create policy mine on batches.batches using (true); select * from batches.batches",
    "rule": "create rule mine as on insert to batches.files do also select * from batches.batches",
    "grant": "grant skald_migrator to skald_app; select * from batches.batches",
    "child table": "create table public.mine () inherits (batches.batches)",
}


@pytest.mark.parametrize("attack", BLIND.values(), ids=BLIND.keys())
@pytest.mark.parametrize("tenant", [None, uuid4()], ids=["no tenant", "another tenant"])
def test_gets_nothing(
    database: Database, victim: Ids, attack: LiteralString, tenant: UUID | None
) -> None:
    """Q-03, Q-10: neither rows nor messages contain anything of tenant A."""
    got = attempt(database, tenant, attack)
    # The attack contains the mark in its search, and errors quote their statement.
    got = got.replace(attack, "")
    assert MARK not in got
    assert str(victim.tenant) not in got
    assert str(victim.batch) not in got


def test_the_victim_gets_its_own(database: Database, victim: Ids) -> None:
    """Q-03: with tenant A the same attacks find something."""
    for name in ("union", "outer join", "sample", "copy", "block", "sql as text", "cast error"):
        assert MARK in attempt(database, victim.tenant, BLIND[name]), name


def test_no_session_sees_the_statements_of_another(database: Database, victim: Ids) -> None:
    """Q-10: all functions share a role, so each could see the running statements of the others."""
    with database.transaction(victim.tenant) as tx:
        tx.value("select name from batches.batches where name = %s", (MARK,))
        seen = attempt(database, uuid4(), "select query, query_id from pg_stat_activity")
    assert "select name from batches.batches" in seen
    assert MARK not in seen
    assert str(victim.tenant) not in seen


# Attacks with known ids ---------------------------------------------------------------------------

PLANTED = (
    "insert into batches.batches (tenant_id, batch_id, name, timeout_seconds, trace_id)"
    " values ({}, '{{batch}}', 'a', 60, 'a')"
)
OWN = PLANTED.format("skald.current_tenant()")
THEIRS = PLANTED.format("'{tenant}'")
KNOWING = {
    "read": "select * from batches.batches where batch_id = '{batch}'",
    "child": "insert into batches.files (tenant_id, batch_id, file_id, name, key)"
    " values (skald.current_tenant(), '{batch}', gen_random_uuid(), 'a', 'a')",
    "child of theirs": "insert into batches.files (tenant_id, batch_id, file_id, name, key)"
    " values ('{tenant}', '{batch}', '{event}', 'a', 'a')",
    "grandchild": "insert into skald.task_executions (tenant_id, saga_id, name, task_id)"
    " values (skald.current_tenant(), '{batch}', 'parse', 'a')",
    "same key": OWN,
    "their key": THEIRS,
    "upsert": THEIRS + " on conflict (tenant_id, batch_id) do update set name = '' returning *",
    "quiet insert": THEIRS + " on conflict do nothing",
    "same event": "insert into skald.outbox"
    " (tenant_id, event_id, event_type, aggregate, correlation_id, envelope)"
    " values (skald.current_tenant(), '{event}', 'a.b', 'a', 'a', '{{}}')",
    "number of an event": "insert into skald.outbox"
    " (position, tenant_id, event_id, event_type, aggregate, correlation_id, envelope)"
    " overriding system value"
    " values ({position}, skald.current_tenant(), '{batch}', 'a.b', 'a', 'a', '{{}}')",
    "number of a letter": "insert into skald.dead_letters"
    " (dead_letter_id, tenant_id, event_id, source, envelope, error) overriding system value"
    " values ({letter}, skald.current_tenant(), '{event}', 'a', '{{}}', 'a')",
    "replay": "select skald.replay({letter}, 'me')",
    "search": "select * from skald.search_knowledge('{tenant}', '{{}}', null, null, 'zirkon',"
    " '{{}}', null, null, '{{}}', 20, 20, 1, 1)",
}


@pytest.mark.parametrize("attack", KNOWING.values(), ids=KNOWING.keys())
def test_no_answer_tells_whether_an_id_exists(
    database: Database, victim: Ids, unknown: Ids, tenant: UUID, attack: str
) -> None:
    """Q-10: foreign keys, unique keys and functions answer the same for A's ids and unknown ids."""
    answers = [ids.hidden(attempt(database, tenant, ids.of(attack))) for ids in (victim, unknown)]
    assert answers[0] == answers[1]
    assert MARK not in answers[0]


ACROSS_TENANTS = {
    "batches.batches_under_way",
    "skald.checkpoint_threads_last_written",
    "skald.dead_letters_age",
    "skald.fanouts_closed",
    "skald.idempotency_cache_expiry",
    "skald.inbox_age",
    "skald.model_answers_age",
    "skald.model_calls_age",
    "skald.saga_transactions_unfinished",
    "skald.signals_unanswered",
    "skald.tickets_age",
    "skald.trace_spans_age",
}
"""Indexes for the sweeper, retention, the reconciler and the delivery of signals."""


def test_keys_begin_with_the_tenant(admin: Connection[DictRow]) -> None:
    """Q-03: a key over all tenants would show by its refusals what other tenants have.

    The exceptions are keys that the database generates, and hashes that only an operator writes.
    """
    keys = admin.execute(
        """
        select i.indexrelid::regclass::text as name
        from pg_index i join pg_class c on c.oid = i.indrelid
             join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
        where c.relnamespace = any(%s::regnamespace[]) and i.indisunique
          and a.attname <> 'tenant_id'
        """,
        (["skald", "batches", "grading"],),
    )
    assert {row["name"] for row in keys} == {
        "skald.api_keys_pkey",
        "skald.outbox_pkey",
        "skald.dead_letters_pkey",
    }


def test_indexes_begin_with_the_tenant(admin: Connection[DictRow]) -> None:
    """Q-03: a tenant's query reads only its own rows.

    The exceptions are indexes for roles that search across tenants by time or state, and kinds of
    indexes that cannot begin with a tenant.
    """
    others = admin.execute(
        """
        select i.indexrelid::regclass::text as name
        from pg_index i join pg_class c on c.oid = i.indrelid
             join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam
             left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
        where c.relnamespace = any(%s::regnamespace[]) and m.amname = 'btree'
          and not i.indisunique and a.attname is distinct from 'tenant_id'
        """,
        (["skald", "batches", "grading"],),
    )
    assert {row["name"] for row in others} == ACROSS_TENANTS


def test_foreign_keys_begin_with_the_tenant(admin: Connection[DictRow]) -> None:
    """Q-03: a reference without the tenant would find a row of another tenant."""
    references = admin.execute(
        """
        select k.conname as name
        from pg_constraint k
             join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
             join pg_attribute b on b.attrelid = k.confrelid and b.attnum = k.confkey[1]
        where k.contype = 'f' and k.connamespace = any(%s::regnamespace[])
          and (a.attname <> 'tenant_id' or b.attname <> 'tenant_id')
        """,
        (["skald", "batches", "grading"],),
    )
    assert references.fetchall() == []


# State of a pooled connection ---------------------------------------------------------------------


@pytest.fixture
def single(servers: Servers) -> Iterator[Database]:
    """A pool of one connection: the next transaction sees what the last one left."""
    database = Database(servers.app_dsn, size=1)
    yield database
    database.close()


LEFT_BEHIND = {
    "set": "set app.current_tenant = '{tenant}'",
    "set session": "set session app.current_tenant = '{tenant}'",
    "set_config": "select set_config('app.current_tenant', '{tenant}', false)",
    "row security": "set session row_security = off",
    "prepared": "prepare mine as select * from batches.batches",
    "cached plan": "prepare theirs as select * from batches.batches; execute theirs",
}


@pytest.mark.parametrize("left", LEFT_BEHIND.values(), ids=LEFT_BEHIND.keys())
def test_what_is_left_on_a_connection_shows_nothing(
    single: Database, victim: Ids, left: str
) -> None:
    """Q-03: a setting for the session does not affect a later transaction of the pool."""
    with single.transaction(uuid4()) as tx:
        outcome(tx, victim.of(left))
    attacks = [BLIND["union"], BLIND["outer join"], "execute mine", "execute theirs"]
    for tenant in (None, uuid4()):
        for attack in attacks:
            assert MARK not in attempt(single, tenant, attack)


def test_plans_cached_for_one_tenant_serve_the_next_alone(single: Database, victim: Ids) -> None:
    """Q-03: psycopg prepares a repeated statement once; its plan reads the tenant each time."""
    query: LiteralString = "select name from batches.batches where %s"
    for _ in range(8):  # after these PostgreSQL may keep a generic plan
        with single.transaction(victim.tenant) as tx:
            assert tx.value(query, (True,)) == MARK
    for tenant in (None, uuid4()):
        with single.transaction(tenant) as tx:
            assert tx.value(query, (True,)) is None


def backend(single: Database, tenant: UUID) -> int:
    with single.transaction(tenant) as tx:
        assert tx.value("select name from batches.batches") == MARK
        return int(tx.value("select pg_backend_pid()"))


def test_a_connection_cut_in_a_transaction_leaves_no_tenant(
    single: Database, victim: Ids, admin: Connection[DictRow]
) -> None:
    """Q-03: PostgreSQL cuts it when a process freezes for longer than a timeout."""
    with pytest.raises(psycopg.OperationalError), single.transaction(victim.tenant) as tx:
        admin.execute(
            "select pg_terminate_backend(%s, 60000)", (tx.value("select pg_backend_pid()"),)
        )
    assert MARK not in attempt(single, uuid4(), BLIND["union"])


def test_a_backend_that_was_stopped_leaves_no_tenant(
    single: Database, victim: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q-03: after SIGSTOP and SIGCONT the next tenant sees nothing, on any connection."""
    monkeypatch.setattr("skald.postgres.pool.PROBE_AFTER_SECONDS", 0.0)
    stopped = backend(single, victim.tenant)
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert MARK not in attempt(single, uuid4(), BLIND["union"])
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert MARK not in attempt(single, uuid4(), BLIND["union"])


# Attacks over HTTP --------------------------------------------------------------------------------

SMUGGLED = (
    "x' or set_config('app.current_tenant', '{tenant}', true) <> '' --",
    "x'; set local app.current_tenant = '{tenant}'; select * from batches.batches --",
    "{tenant}",
)


@pytest.mark.parametrize("smuggled", SMUGGLED)
@pytest.mark.parametrize("parameter", ["name", "status", "sort", "fields", "created_at", "page"])
def test_no_parameter_of_a_request_becomes_sql(
    api: Client, victim: Ids, smuggled: str, parameter: str
) -> None:
    """Q-10, G-11: every input of a client stays a value, so the tenant stays that of the key."""
    api.open_batch()
    answer = api("GET", "/batches", query={parameter: victim.of(smuggled)})
    assert answer.status in (200, 422)
    assert MARK not in answer.text
