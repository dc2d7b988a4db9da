"""G-02, W-02: an index finds old rows, also where young rows took their place in the table."""

from typing import LiteralString
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.support import wait_until_unseen

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
"""The column each table ages by, and a row of that time."""
TENANT = "(left(%(tenant)s::text, 24) || lpad(to_hex(n), 12, '0'))::uuid"
"""A tenant a row: no index that begins with the tenant is of use."""


@pytest.mark.parametrize(("table", "column"), TABLES)
def test_the_old_are_found_without_a_look_at_the_young_of(
    admin: Connection[DictRow], tenant: UUID, table: LiteralString, column: LiteralString
) -> None:
    """C-09: a minute's clean-up must not read what weeks have left, with a thousandth of it old."""

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
