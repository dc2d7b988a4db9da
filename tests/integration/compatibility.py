"""C-04: reads from PostgreSQL's catalogue what the statements of the last release rely on.

During a migration the functions of the last release still run. So the new schema must keep what the
old schema promised, and must not demand more. Both schemas are compared as facts, so the statements
of a migration do not matter. The facts do not cover the body of a function and the rows that a
migration rewrites.
"""

from dataclasses import dataclass
from typing import Any, LiteralString, Self

from psycopg import Connection

_CATALOGUE: LiteralString = """
    with schemas as (
        select oid, nspname from pg_namespace
        where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')
    ),
    relations as (
        select c.*, format('%s.%s', nspname, relname) as name
        from pg_class as c join schemas on schemas.oid = relnamespace
        where relkind in ('r', 'p', 'v', 'm', 'c')
    ),
    columns as (
        select a.*, r.name as relation, format('%s.%s', r.name, attname) as name,
               relkind in ('r', 'p') as is_stored,
               atthasdef or attidentity <> '' or not attnotnull as is_optional
        from pg_attribute as a join relations as r on r.oid = attrelid
        where (attnum > 0 or attname = 'ctid') and not attisdropped
    ),
    functions as (
        select p.*, p.oid::regprocedure::text as name
        from pg_proc as p join schemas on schemas.oid = pronamespace
    ),
    domains as (
        select t.*, t.oid::regtype::text as name
        from pg_type as t join schemas on schemas.oid = typnamespace where typtype = 'd'
    ),
    roles (role) as (values ('skald_app'), ('skald_relay'))
"""

_PROMISES: tuple[LiteralString, ...] = (
    "select name, 'exists' from relations",
    "select name, concat('is ', format_type(atttypid, atttypmod),"
    "    case when attgenerated <> '' then ', generated' end) from columns",
    "select name, 'may be left out' from columns where is_stored and is_optional",
    "select name, 'may be null' from columns where is_stored and not attnotnull",
    "select name, format('%s may %s', role, action)"
    " from columns, roles, unnest('{select,insert,update}'::text[]) as action"
    " where has_column_privilege(role, attrelid, attnum, action)",
    "select name, format('%s may delete', role)"
    " from relations, roles where has_table_privilege(role, oid, 'delete')",
    "select name, concat('has a key ', substring(pg_get_indexdef(indexrelid) from 'USING (.*)'))"
    " from pg_index join relations on oid = indrelid where indisunique",
    "select name, format('shows %s to %s (%s)', pg_get_expr(polqual, polrelid),"
    "    polroles::regrole[], polcmd)"
    " from pg_policy join relations as r on r.oid = polrelid where polpermissive",
    "select name, format('takes %s, returns %s', pg_get_function_identity_arguments(oid),"
    "    pg_get_function_result(oid)) from functions",
    "select name, format('%s may execute', role)"
    " from functions, roles where has_function_privilege(role, oid, 'execute')",
    "select name, format('is %s', format_type(typbasetype, typtypmod)) from domains",
)
"""Each query returns names and a fact about each."""

_DEMANDS: tuple[LiteralString, ...] = (
    "select relation, name, 'must be given' from columns where is_stored and not is_optional",
    "select name, name, concat('refuses a second ', substring("
    "    pg_get_indexdef(indexrelid) from 'USING (.*)'))"
    " from pg_index join relations on oid = indrelid where indisunique",
    "select name, name, replace(pg_get_constraintdef(c.oid), ' NOT VALID', '')"
    " from pg_constraint as c join relations as r on r.oid = conrelid"
    " where contype in ('c', 'f', 'x')",
    "select name, name, pg_get_constraintdef(c.oid)"
    " from pg_constraint as c join domains as d on d.oid = contypid where contype = 'c'",
    "select name, name, 'has row-level security' from relations where relrowsecurity",
    "select name, name, format('restricts %s to %s', polcmd, concat_ws(', ',"
    "    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)))"
    " from pg_policy join relations as r on r.oid = polrelid where not polpermissive",
)
"""Each query returns a relation or domain, the name of what it demands, and the demand."""


@dataclass(frozen=True)
class Schema:
    """What statements may rely on: (name, fact). What they must obey: (of, name, fact)."""

    promises: frozenset[tuple[str, str]]
    demands: frozenset[tuple[str, str, str]]

    def broken_by(self, new: Self) -> set[tuple[str, str]]:
        """Return the promises that the new schema breaks and the demands that it adds."""
        names = {name for name, _ in self.promises}
        added = {(name, fact) for of, name, fact in new.demands - self.demands if of in names}
        return set(self.promises - new.promises) | added


def read_schema(connection: Connection[Any]) -> Schema:
    """Read the schema of a database, in the transaction that is open."""
    connection.execute("set local search_path = ''")

    def facts(queries: tuple[LiteralString, ...]) -> frozenset[Any]:
        return frozenset(
            tuple(row.values()) if isinstance(row, dict) else tuple(row)
            for query in queries
            for row in connection.execute(_CATALOGUE + query)
        )

    return Schema(facts(_PROMISES), facts(_DEMANDS))


def is_covered(name: str, contracts: set[str]) -> bool:
    """Say whether a contract migration removes this name, or something that contains it."""
    return any(name == contract or name.startswith(f"{contract}.") for contract in contracts)
