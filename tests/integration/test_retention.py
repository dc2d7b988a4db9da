"""C-09: old rows are deleted, and found without reading recent rows."""

from datetime import timedelta
from typing import LiteralString
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.conftest import Context
from tests.integration.support import wait_until_unseen

import operations.retention
from operations.contexts import contexts
from skald.postgres import Database, Transaction
from skald.retention import RETENTIONS, Delete, Retention, delete_old

ROWS = 10_000
TABLES: dict[tuple[LiteralString, LiteralString], LiteralString] = {
    ("inbox", "received_at"): """
        (tenant_id, event_id, consumer, received_at)
        select {tenant}, gen_random_uuid(), 'consumer', {time}
    """,
    ("trace_spans", "start_time"): """
        (tenant_id, trace_id, span_id, kind, name, status, start_time, end_time)
        select {tenant}, gen_random_uuid(), 'span', 'step', 'name', 'ok', {time}, {time}
    """,
    ("model_answers", "leased_until"): """
        (tenant_id, question, owner, leased_until)
        select {tenant}, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
               gen_random_uuid(), {time}
    """,
    ("model_calls", "at"): """
        (tenant_id, call_id, subject, role, model, outcome, duration_ms, at)
        select {tenant}, gen_random_uuid(), 'subject', 'role', 'model', 'answered', 1, {time}
    """,
    ("tickets", "expires_at"): """
        (tenant_id, ticket_hash, path, actor_id, key_hash, expires_at)
        select {tenant}, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'path',
               'actor', 'hash', {time}
    """,
}
"""The column for the age of each table, and a row of that time."""
TENANT = "(left(%(tenant)s::text, 24) || lpad(to_hex(n), 12, '0'))::uuid"
"""One tenant per row, so an index that begins with the tenant does not help."""


@pytest.mark.parametrize(("table", "column"), TABLES)
def test_the_old_are_found_without_a_look_at_the_young_of(
    admin: Connection[DictRow], tenant: UUID, table: LiteralString, column: LiteralString
) -> None:
    """C-09: with one row in a thousand old, a clean-up each minute must not read the others."""

    def fill(youngest: LiteralString, rows: int = ROWS) -> None:
        time = f"now() - n * interval '1 min' - {youngest!r}::interval"
        row = TABLES[table, column].format(time=time, tenant=TENANT)
        insert = f"insert into skald.{table} {row} from generate_series(1, %(rows)s) as n"
        admin.execute(insert, {"tenant": tenant, "rows": rows})

    ours = "starts_with(tenant_id::text, left(%s::text, 24))"
    delete = f"delete from skald.{table} where {ours}"  # noqa: S608 (our own names)
    fill("2 years")
    admin.execute(delete, (tenant,))
    wait_until_unseen(admin)
    admin.execute(f"vacuum (truncate off) skald.{table}")
    fill("0 s")
    fill("1 year", ROWS // 1000)
    admin.execute(f"vacuum analyze skald.{table}")
    try:
        old = f"select ctid from skald.{table} where {column} < now() - interval '1 year'"  # noqa: S608
        (plan,) = admin.execute(f"explain (analyze, buffers, format json) {old}").fetchall()
        (size,) = admin.execute(f"select pg_relation_size('skald.{table}') / 8192 as pages")
    finally:
        admin.execute(delete, (tenant,))
    root = plan["QUERY PLAN"][0]["Plan"]
    assert root["Actual Rows"] >= ROWS // 1000
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < size["pages"] / 5


def test_the_schedule_tells_of_every_row_of_the_table(
    relay_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-09: the relay's role may run each deletion, and each is reported by its own name."""
    monkeypatch.setattr(operations.retention, "database", lambda: relay_database)
    report = operations.retention.tidy({}, Context())
    rows = [*RETENTIONS, *contexts().retention]
    assert list(report) == [retention.what for retention in rows]


def test_tables_take_turns_until_nothing_is_old(relay_database: Database) -> None:
    """C-09: a large backlog of one table does not delay another table."""
    turns: list[str] = []
    retentions = [
        Retention("much", timedelta(0), _in_bites(turns, "much", 3)),
        Retention("little", timedelta(0), _in_bites(turns, "little", 1)),
    ]
    assert delete_old(relay_database, retentions, lambda: True) == {"much": 6, "little": 2}
    assert turns == ["much", "little", "much", "little", "much", "much"]


def test_no_bite_is_begun_without_time(relay_database: Database) -> None:
    """C-09: the next run deletes the rest, and the result says so."""
    turns: list[str] = []
    retentions = [Retention(name, timedelta(0), _in_bites(turns, name, 5)) for name in ("a", "b")]
    report = delete_old(relay_database, retentions, lambda: len(turns) < 3)
    assert report == {"a": 4, "b": 2}


def test_each_bite_is_a_transaction_of_its_own(
    relay_database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """C-09: deleted rows stay deleted if a later step fails, and other tables continue."""
    admin.execute(
        "insert into skald.inbox (tenant_id, event_id, consumer)"
        " select %s, gen_random_uuid(), 'consumer' from generate_series(1, 3)",
        (tenant,),
    )
    bites = iter([1, 1])

    def delete(tx: Transaction, _: timedelta) -> int:
        tx.execute(
            "delete from skald.inbox where ctid = any(array("
            "select ctid from skald.inbox where received_at > now() - interval '1 h' limit 1))"
        )
        return next(bites, 0) or tx.value("select 1 / 0")

    turns: list[str] = []
    retentions = [
        Retention("failing", timedelta(0), delete),
        Retention("other", timedelta(0), _in_bites(turns, "other", 4)),
    ]
    before = _notes(admin)
    with pytest.raises(ExceptionGroup):
        delete_old(relay_database, retentions, lambda: True)
    assert before - _notes(admin) == 2
    assert len(turns) == 5


def _in_bites(turns: list[str], name: str, bites: int) -> Delete:
    left = iter([2] * bites)

    def delete(_: Transaction, __: timedelta) -> int:
        turns.append(name)
        return next(left, 0)

    return delete


def _notes(admin: Connection[DictRow]) -> int:
    (row,) = admin.execute("select count(*) as notes from skald.inbox").fetchall()
    return int(row["notes"])
