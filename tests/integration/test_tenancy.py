"""Q-03, Q-10: a tenant's rows exist for that tenant alone, in every table."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString, cast
from uuid import UUID, uuid4

import pytest
from psycopg import Connection, errors, sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from tests.integration.conftest import Servers
from tests.integration.support import event

from batches import repository, uploads
from batches.domain import BatchStatus, NewBatch
from batches.features import Features
from batches.repository import PARSING
from operations.migrations import FUNCTIONS
from skald.access import tickets
from skald.access.keys import Principal, create_api_key
from skald.knowledge.entries import NewEntry
from skald.knowledge.store import SHARED, add
from skald.messaging import inbox, outbox
from skald.models import records
from skald.postgres import Database
from skald.postgres.pipeline import PipelinedConnection
from skald.saga import SagaLog

SCHEMAS = ["skald", *(folder.parent.name for folder in sorted(FUNCTIONS.glob("*/schema")))]
DOORS = {
    "skald.authenticate(bytea)",
    "skald.replay(bigint,text)",
    "skald.search_knowledge(uuid,text[],halfvec,halfvec,text,text[],text,text,text[],integer,"
    "integer,double precision,double precision)",
}
"""The allowed SECURITY DEFINER functions. Each one bypasses the isolation."""
SHARED_TABLES = ["skald.knowledge_entries", "skald.knowledge_spaces", "skald.knowledge_embeddings"]
"""Tables in which all tenants read the shared tenant's rows, and only the operator writes them."""
ADMINISTERED = {"skald.tenants", "skald.api_keys", *SHARED_TABLES}
"""Tables that the migrator's role sees across tenants."""


def column(admin: Connection[DictRow], query: LiteralString, *parameters: object) -> set[Any]:
    """Return the first column of a query's rows."""
    return {next(iter(row.values())) for row in admin.execute(query, parameters)}


# The catalogue ------------------------------------------------------------------------------------


def test_every_tenant_table_is_isolated(admin: Connection[DictRow]) -> None:
    """Q-03: each table with a tenant_id has RLS, also forced on the owner, and a policy."""
    tables = admin.execute(
        """
        select c.oid::regclass::text as name, c.relrowsecurity and c.relforcerowsecurity as forced,
               exists (select from pg_policy p where p.polrelid = c.oid
                       and p.polname = 'tenant_isolation' and p.polroles = '{0}'
                       and p.polqual is not null and p.polwithcheck is not null) as has_policy
        from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = any(%s::regnamespace[]) and c.relkind in ('r', 'p')
          and a.attname = 'tenant_id' and not a.attisdropped
        """,
        (SCHEMAS,),
    ).fetchall()
    assert len(tables) >= 12
    assert [table for table in tables if not (table["forced"] and table["has_policy"])] == []


def test_no_table_is_without_tenant(admin: Connection[DictRow]) -> None:
    """Q-03: all tenants would share a table without tenant_id, so there is none."""
    assert (
        column(
            admin,
            """
            select c.oid::regclass::text from pg_class c
            where c.relnamespace = any(%s::regnamespace[]) and c.relkind in ('r', 'p')
              and not exists (select from pg_attribute a
                              where a.attrelid = c.oid and a.attname = 'tenant_id')
            """,
            SCHEMAS,
        )
        == set()
    )


def test_policies_ask_for_the_tenant_once_a_statement(admin: Connection[DictRow]) -> None:
    """Q-03: the policy reads the tenant in a subquery, once and not for each row."""
    asked = "(tenant_id = ( SELECT skald.current_tenant() AS current_tenant))"
    found = admin.execute(
        "select pg_get_expr(polqual, polrelid) as sees, pg_get_expr(polwithcheck, polrelid) as puts"
        " from pg_policy where polname = 'tenant_isolation'"
    ).fetchall()
    assert {expression for policy in found for expression in policy.values()} == {asked}
    admin.execute("set app.current_tenant = ''")
    assert column(admin, "select skald.current_tenant()") == {None}


def test_every_other_policy_names_its_role(admin: Connection[DictRow]) -> None:
    """Q-03: policies add up, so a policy `true` without a role would end the isolation."""
    others = admin.execute(
        "select polname, polroles::regrole[]::text[] as roles from pg_policy"
        " where polname <> 'tenant_isolation'"
        " and not (polname like 'shared%' and polroles::regrole[]::text[] = '{skald_app}')"
    ).fetchall()
    assert {role for policy in others for role in policy["roles"]} == {
        "skald_migrator",
        "skald_relay",
    }


def test_what_is_shared_is_read_by_all_and_written_by_none(admin: Connection[DictRow]) -> None:
    """V-09, Q-10: the app's role has one more policy, to read; the restrictive one adds no row."""
    policies = admin.execute(
        """
        select polrelid::regclass::text as name, polcmd, polpermissive as adds,
               pg_get_expr(coalesce(polqual, polwithcheck), polrelid) as rows
        from pg_policy
        where polname like 'shared%' and polroles::regrole[]::text[] = '{skald_app}'
        """
    ).fetchall()
    shared, others = "(tenant_id = skald.shared_tenant())", "(tenant_id <> skald.shared_tenant())"
    assert sorted(tuple(policy.values()) for policy in policies) == sorted(
        (table, command, adds, rows)
        for table in SHARED_TABLES
        for command, adds, rows in [
            ("r", True, shared),
            ("a", False, others),
            ("w", False, others),
            ("d", False, others),
        ]
    )


def test_no_view_runs_with_its_owners_rights(admin: Connection[DictRow]) -> None:
    """Q-03: a view that is not `security_invoker` would show the rows of its owner."""
    assert (
        column(
            admin,
            """
            select c.oid::regclass::text from pg_class c
            where c.relnamespace = any(%s::regnamespace[]) and c.relkind in ('v', 'm')
              and not coalesce(c.reloptions @> '{security_invoker=true}', false)
            """,
            SCHEMAS,
        )
        == set()
    )


def test_security_definer_functions_are_listed_and_fixed(admin: Connection[DictRow]) -> None:
    """Q-03: each function with its owner's rights is in the list and has a fixed search_path."""
    found = admin.execute(
        """
        select p.oid::regprocedure::text as name, p.proconfig as settings from pg_proc p
        where p.pronamespace = any(%s::regnamespace[]) and p.prosecdef
        """,
        (SCHEMAS,),
    ).fetchall()
    assert {function["name"] for function in found} == DOORS
    assert all("search_path=pg_catalog" in function["settings"] for function in found)


@pytest.mark.parametrize("role", ["skald_app", "skald_relay"])
def test_roles_have_no_way_around(admin: Connection[DictRow], role: str) -> None:
    """Q-03: the roles of functions own nothing, are no superusers and do not bypass RLS."""
    attributes = admin.execute(
        "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication from pg_roles"
        " where rolname = %s",
        (role,),
    ).fetchone()
    assert attributes is not None
    assert not any(attributes.values())
    assert column(admin, "select oid from pg_class where relowner = %s::regrole", role) == set()
    assert column(admin, "select oid from pg_proc where proowner = %s::regrole", role) == set()
    assert column(admin, "select nspname from pg_namespace where nspowner = %s::regrole", role) == (
        set()
    )
    assert (
        column(admin, "select roleid from pg_auth_members where member = %s::regrole", role)
        == set()
    )


def test_no_role_of_ours_may_truncate(admin: Connection[DictRow]) -> None:
    """Q-03: row-level security does not apply to TRUNCATE."""
    assert (
        column(
            admin,
            """
            select c.oid::regclass::text from pg_class c,
                   unnest(array['skald_app', 'skald_relay']) as role
            where c.relnamespace = any(%s::regnamespace[]) and c.relkind in ('r', 'p')
              and has_table_privilege(role, c.oid, 'TRUNCATE')
            """,
            SCHEMAS,
        )
        == set()
    )


# Rights of the app's role -------------------------------------------------------------------------


@dataclass(frozen=True)
class Furnished:
    """A tenant with a row in every tenant table."""

    tenant_id: UUID
    batch_id: UUID
    tables: list[str]


@pytest.fixture(scope="module")
def furnished(
    database: Database, migrator_database: Database, admin: Connection[DictRow]
) -> Furnished:
    """Tenant A, with a row in every table."""
    tenant, batch_id = uuid4(), uuid4()
    with migrator_database.transaction(None) as tx:
        create_api_key(tx, tenant, "test")
    name = uploads.files.name(tenant, batch_id, "a.log")
    with database.transaction(tenant) as tx:
        repository.create_batch(tx, batch_id, NewBatch(name="a"), "0" * 32)
        repository.FILES.add(tx, name, 5)
        for status in (BatchStatus.UPLOADED, BatchStatus.SCATTERING):
            repository.enter(tx, batch_id, status)
        task, worker = (str(batch_id), str(name.file_id)), uuid4()
        PARSING.open(tx, str(batch_id), repository.list_tasks(tx, batch_id))
        PARSING.claim(tx, *task, worker)
        PARSING.finish(tx, *task, worker, Features(format="text"))
        for status in (BatchStatus.GATHERING, BatchStatus.GATHERED, BatchStatus.DIAGNOSING):
            repository.enter(tx, batch_id, status)
        repository.save_diagnosis(tx, batch_id, {})
        repository.save_report(tx, batch_id, {})
        add(tx, [NewEntry(key="E1", kind="error_code", title="a", text="b")])
        inbox.accept(tx, event(tenant), "test")
        outbox.publish(tx, event(tenant))
        SagaLog(tx, "saga").run_step("step", dict)
        tickets.issue(tx, Principal(tenant, "test", b"hash"), "/batches")
        records.claim(tx, bytes(32), uuid4(), timedelta(seconds=1))
        records.note(tx, records.ModelCall("batch", "judge", "model", "answered", 1))
        tx.execute(
            "insert into skald.dead_letters (tenant_id, event_id, source, envelope, error)"
            " values (%s, %s, 'test', '{}', 'error')",
            (tenant, uuid4()),
        )
    tables = column(
        admin,
        "select format('%%I.%%I', table_schema, table_name) from information_schema.columns"
        " join information_schema.tables using (table_schema, table_name)"
        " where table_schema = any(%s) and column_name = 'tenant_id' and table_type = 'BASE TABLE'",
        SCHEMAS,
    )
    for table in tables:
        count = statement("select count(*) from {table} where tenant_id = %s", table)
        if column(admin, count, tenant) == {0}:
            invent_row(admin, table, tenant)
    return Furnished(tenant, batch_id, sorted(tables))


INVENTED = {
    "uuid": "gen_random_uuid()",
    "bytea": "'x'::bytea",
    "jsonb": "'{}'::jsonb",
    "json": "'{}'::json",
    "integer": "1",
    "bigint": "1",
    "double precision": "1",
    "boolean": "true",
    "timestamp with time zone": "now()",
}
"""A value for each type of a column; for texts see `invent_row`."""


def invent_row(admin: Connection[DictRow], table: str, tenant: UUID) -> None:
    """Insert a row into a table that has no row yet, so that new tables are tested too.

    Texts take the first value that a check constraint of the table lists for them.
    """
    columns = admin.execute(
        """
        select quote_ident(attname) as name, format_type(atttypid, null) as type,
               (select substring(pg_get_constraintdef(oid) from '''([^'']+)''::text')
                from pg_constraint where conrelid = attrelid and contype = 'c'
                and attnum = any(conkey) limit 1) as listed
        from pg_attribute
        where attrelid = %s::regclass and attnum > 0 and not attisdropped
          and attnotnull and not atthasdef and attidentity = ''
        """,
        (table,),
    ).fetchall()
    values = {
        row["name"]: INVENTED.get(row["type"], f"'{row['listed'] or 'x'}'") for row in columns
    }
    values["tenant_id"] = f"'{tenant}'"
    insert = statement(
        "insert into {table} ({names}) values ({values})",
        table,
        names=", ".join(values),
        values=", ".join(values.values()),
    )
    with admin.transaction():
        # As a replica does: without foreign keys and triggers.
        admin.execute("set local session_replication_role = replica")
        admin.execute(insert)


@pytest.fixture(params=["no tenant", "another tenant"])
def stranger(request: pytest.FixtureRequest) -> UUID | None:
    """A session without a tenant, or with a tenant other than A."""
    return None if request.param == "no tenant" else uuid4()


def statement(template: LiteralString, table: str, **names: str) -> LiteralString:
    """Return SQL about a table. PostgreSQL quotes the names."""
    text = sql.SQL(template).format(
        table=sql.SQL(table), **{key: sql.SQL(value) for key, value in names.items()}
    )
    return text.as_string()


def columns_of(admin: Connection[DictRow], table: str) -> str:
    """Return the columns that the app may insert, as SQL; all columns if it may insert none."""
    columns = admin.execute(
        "select quote_ident(attname) as name,"
        "       has_column_privilege('skald_app', attrelid, attnum, 'INSERT') as is_granted"
        " from pg_attribute where attrelid = %s::regclass"
        " and attnum > 0 and not attisdropped and attidentity = '' and attgenerated = ''"
        " order by attnum",
        (table,),
    ).fetchall()
    granted = [column for column in columns if column["is_granted"]]
    return ", ".join(column["name"] for column in granted or columns)


def test_tenant_a_has_a_row_in_every_table(
    admin: Connection[DictRow], furnished: Furnished
) -> None:
    """Q-03: the tests below need a row of tenant A in every table."""
    assert len(furnished.tables) >= 12
    for table in furnished.tables:
        query = statement("select count(*) from {table} where tenant_id = %s", table)
        assert column(admin, query, furnished.tenant_id) != {0}, table


def test_a_stranger_sees_nothing(
    database: Database, furnished: Furnished, stranger: UUID | None
) -> None:
    """Q-03, Q-10: without a tenant, or as another one, each table is empty or forbidden."""
    for table in furnished.tables:
        try:
            with database.transaction(stranger) as tx:
                count = statement("select count(*) from {table} where tenant_id <> %s", table)
                assert tx.value(count, (SHARED,)) == 0, table
        except errors.InsufficientPrivilege:
            pass  # not even granted


def test_a_stranger_cannot_insert_for_tenant_a(
    database: Database,
    admin: Connection[DictRow],
    furnished: Furnished,
    stranger: UUID | None,
) -> None:
    """Q-03, Q-10: other tenants cannot insert a row with tenant A's id into any table.

    Each insert copies a row of tenant A as values, so only the tenant is wrong.
    """
    for table in furnished.tables:
        names = columns_of(admin, table)
        insert = statement(
            "insert into {table} ({names})"
            " select {names} from jsonb_populate_record(null::{table}, %s::jsonb)",
            table,
            names=names,
        )
        own = statement("select to_jsonb(t) as row from {table} t where tenant_id = %s", table)
        row = admin.execute(own, (furnished.tenant_id,)).fetchone()
        assert row is not None
        with (
            pytest.raises(errors.InsufficientPrivilege),
            database.transaction(stranger) as tx,
        ):
            tx.execute(insert, (Jsonb(row["row"]),))


def test_a_stranger_cannot_change_or_delete(
    database: Database,
    admin: Connection[DictRow],
    furnished: Furnished,
    stranger: UUID | None,
) -> None:
    """Q-03, Q-10: other tenants cannot update, move or delete tenant A's rows."""
    templates: list[LiteralString] = [
        "update {table} set tenant_id = tenant_id",
        "delete from {table}",
    ]
    for table in furnished.tables:
        query = statement("select xmin::text as version from {table} where tenant_id = %s", table)
        before = admin.execute(query, (furnished.tenant_id,)).fetchall()
        for template in templates:
            try:
                with database.transaction(stranger) as tx:
                    assert tx.execute(statement(template, table)).rowcount == 0, table
            except errors.InsufficientPrivilege:
                pass  # not even granted
        assert admin.execute(query, (furnished.tenant_id,)).fetchall() == before, table


def test_a_tenant_cannot_give_its_rows_away(
    database: Database, furnished: Furnished, tenant: UUID
) -> None:
    """Q-10: a tenant cannot move a row to another tenant."""
    with (
        pytest.raises(errors.InsufficientPrivilege),
        database.transaction(furnished.tenant_id) as tx,
    ):
        tx.execute("update batches.batches set tenant_id = %s", (tenant,))


def test_the_owner_is_no_exception(
    migrator_database: Database, furnished: Furnished, stranger: UUID | None
) -> None:
    """Q-03: FORCE ROW LEVEL SECURITY binds the migrator too, except where it administers keys."""
    with migrator_database.transaction(stranger) as tx:
        for table in furnished.tables:
            if table not in ADMINISTERED:
                assert tx.value(statement("select count(*) from {table}", table)) == 0, table


# The setting does not leak ------------------------------------------------------------------------


@pytest.fixture
def single(servers: Servers) -> Iterator[Database]:
    """A pool of one connection: the next transaction sees every setting that stays."""
    database = Database(servers.app_dsn, size=1)
    yield database
    database.close()


def visible(database: Database, tenant: UUID | None) -> int:
    with database.transaction(tenant) as tx:
        return int(tx.value("select count(*) from batches.batches"))


def test_the_tenant_ends_with_its_transaction(single: Database, furnished: Furnished) -> None:
    """Q-03: the next transaction on the same connection has its own tenant, or none."""
    assert visible(single, furnished.tenant_id) == 1
    assert visible(single, None) == 0
    assert visible(single, furnished.tenant_id) == 1
    assert visible(single, uuid4()) == 0


def test_the_tenant_ends_with_a_failed_transaction(single: Database, furnished: Furnished) -> None:
    """Q-03: after an error the connection has no tenant."""
    with pytest.raises(errors.DivisionByZero), single.transaction(furnished.tenant_id) as tx:
        tx.execute("select 1 / 0")
    assert visible(single, None) == 0


def test_outside_of_transactions_there_is_no_tenant(single: Database, furnished: Furnished) -> None:
    """Q-03: the setting belongs to the transaction, not to the session."""
    assert visible(single, furnished.tenant_id) == 1
    connection, _ = single._idle[0]
    plain = cast(PipelinedConnection, connection)
    row = plain.execute("select current_setting('app.current_tenant', true)").fetchone()
    assert row in ((None,), ("",))


# The relay ----------------------------------------------------------------------------------------

LOOKOUT_COLUMNS = {
    "tenant_id",
    "batch_id",
    "status",
    "updated_at",
}
GATE_COLUMNS = {
    "tenant_id",
    "saga_id",
    "name",
    "total",
    "finished",
    "failed",
    "created_at",
    "finished_at",
    "awaited_at",
    "opened_at",
}


def granted_to_relay(admin: Connection[DictRow], schema: str, table: str) -> set[Any]:
    """Return the columns of a table that the relay's role may read."""
    return column(
        admin,
        "select column_name::text from information_schema.column_privileges"
        " where grantee = 'skald_relay' and table_schema = %s and table_name = %s"
        " and privilege_type = 'SELECT'",
        schema,
        table,
    )


def test_the_lookout_sees_states_and_nothing_more(
    relay_database: Database, admin: Connection[DictRow], furnished: Furnished
) -> None:
    """Q-10: the role that looks across tenants sees ids, states, counts and times, no content."""
    assert granted_to_relay(admin, "batches", "batches") == LOOKOUT_COLUMNS
    assert granted_to_relay(admin, "skald", "fanouts") == GATE_COLUMNS
    with relay_database.transaction(None) as tx:
        found = repository.find_stuck(tx, timedelta(0))
        assert furnished.batch_id in {batch.batch_id for batch in found}
    with pytest.raises(errors.InsufficientPrivilege), relay_database.transaction(None) as tx:
        tx.execute("select name from batches.batches")


@pytest.mark.parametrize(
    "query",
    [
        "select 1 from skald.api_keys",
        "select 1 from skald.tenants",
        "select * from skald.authenticate('x'::bytea)",
        "select event_id from skald.inbox",
        "select input from skald.saga_transactions",
        "select token from skald.fanouts",
        "update skald.fanouts set opened_at = now()",
        "select 1 from skald.task_executions",
        "select 1 from skald.saga_steps",
        "select 1 from batches.files",
        "select 1 from batches.reports",
        "update batches.batches set status = 'failed'",
        "insert into skald.outbox (tenant_id, event_id, event_type, aggregate, envelope)"
        " values (gen_random_uuid(), gen_random_uuid(), 'a.b', 'a', '{}')",
    ],
)
def test_the_relay_may_nothing_else(relay_database: Database, query: LiteralString) -> None:
    """Q-10: the relay moves events; it may not read keys, files or reports."""
    with pytest.raises(errors.InsufficientPrivilege), relay_database.transaction(None) as tx:
        tx.execute(query)


@pytest.mark.parametrize(
    "query",
    [
        "select 1 from skald.api_keys",
        "select 1 from skald.tenants",
        "insert into skald.tenants (tenant_id, name) values (gen_random_uuid(), 'mine')",
        "call skald.isolate_tenants('batches.batches')",
        "alter table batches.batches no force row level security",
        "set role skald_migrator",
        "update skald.outbox set status = 'published'",
        "delete from skald.inbox",
    ],
)
def test_the_app_may_not_bypass_its_restrictions(
    database: Database, tenant: UUID, query: LiteralString
) -> None:
    """Q-03: the app may neither read keys nor change its own restrictions."""
    with pytest.raises(errors.InsufficientPrivilege), database.transaction(tenant) as tx:
        tx.execute(query)
