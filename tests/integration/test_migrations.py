"""C-04: migrations run at any time, also while functions of the last release run."""

from collections.abc import Iterator
from functools import partial
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from tests import migrations
from tests.integration.compatibility import is_covered, read_schema
from tests.integration.conftest import Servers
from tests.integration.support import together
from yoyo import get_backend, read_migrations

from operations.migrations import apply


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """The migrator's address of an empty database."""
    with psycopg.connect(servers.admin_dsn, autocommit=True) as connection:
        name = sql.Identifier("empty")
        connection.execute(
            sql.SQL("create database {} template template0 owner skald_migrator").format(name)
        )
        with psycopg.connect(_at(servers.admin_dsn), autocommit=True) as inside:
            inside.execute("create extension vector")
        yield _at(servers.migrator_dsn)
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def _at(dsn: str) -> str:
    return urlsplit(dsn)._replace(path="/empty").geturl()


def test_migrations_apply_once(empty_database: str) -> None:
    """C-04: every migration runs once; the second run changes nothing."""
    applied = apply(empty_database)
    assert applied[0] == "0001.tenancy"
    assert "0001.batches" in applied
    assert apply(empty_database) == []


def test_two_deployments_at_once_apply_each_migration_once(empty_database: str) -> None:
    """C-04: the second deployment waits for the first, and then changes nothing."""
    one, two = together(*[partial(apply, empty_database)] * 2)
    assert bool(one) != bool(two)
    assert len(one + two) == len(set(one + two))


def test_the_release_before_runs_on_the_new_schema(servers: Servers, empty_database: str) -> None:
    """C-04: migrations after the release remove only what they declare."""
    _apply_released(empty_database)
    with psycopg.connect(_at(servers.admin_dsn)) as connection:
        before = read_schema(connection)
    assert sorted(apply(empty_database)) == sorted(file.stem for file in migrations.unreleased())
    with psycopg.connect(_at(servers.admin_dsn)) as connection:
        after = read_schema(connection)
    contracted = {
        name for file in migrations.unreleased() for name in migrations.contracts(file.read_text())
    }
    broken = {fact for fact in before.broken_by(after) if not is_covered(fact[0], contracted)}
    assert broken == set()


def _apply_released(dsn: str) -> None:
    backend = get_backend(dsn.replace("postgresql", "postgresql+psycopg", 1))
    released = {file.stem for file in migrations.released()}
    ours = read_migrations(*map(str, migrations.FOLDERS)).filter(lambda one: one.id in released)
    backend.apply_migrations(backend.to_apply(ours))
    backend.connection.close()


# Changes that break the last release --------------------------------------------------------------

OLD = """
    create schema old;
    create domain old.state as text check (value in ('new', 'done'));
    create table old.things (
        tenant_id uuid not null,
        thing_id  bigint generated always as identity,
        name      text,
        state     old.state not null default 'new',
        size      integer not null,
        primary key (tenant_id, thing_id)
    );
    create unique index things_named on old.things (tenant_id, name);
    call skald.isolate_tenants('old.things');
    grant select, insert, update, delete on old.things to skald_app;
    create view old.names as select tenant_id, name from old.things;
    grant select on old.names to skald_app;
    create function old.count(tenant uuid) returns bigint language sql return 1;
"""
BREAKING: dict[LiteralString, LiteralString] = {
    "drop table old.things cascade": "old.things",
    "alter table old.things rename to items": "old.things",
    "alter schema old rename to new": "old.things",
    "alter table old.things drop column size": "old.things.size",
    "alter table old.things rename size to weight": "old.things.size",
    "alter table old.things alter size type bigint": "old.things.size",
    "alter table old.things alter name set not null": "old.things.name",
    "alter table old.things alter state drop default": "old.things.state",
    "alter table old.things add owner text not null": "old.things.owner",
    "alter table old.things add check (size > 0)": "old.things",
    "alter table old.things add check (size > 0) not valid": "old.things",
    "alter table old.things add foreign key (tenant_id) references skald.tenants": "old.things",
    "create unique index on old.things (tenant_id, size)": "old.things",
    "drop index old.things_named": "old.things",
    "drop view old.names": "old.names",
    "create or replace view old.names as select tenant_id, name from old.things;"
    " revoke select on old.names from skald_app": "old.names.name",
    "drop function old.count": "old.count(uuid)",
    "alter function old.count rename to size": "old.count(uuid)",
    "drop function old.count; create function old.count(tenant uuid) returns integer"
    " language sql return 1": "old.count(uuid)",
    "drop function old.count; create function old.count(owner uuid) returns bigint"
    " language sql return 1": "old.count(uuid)",
    "revoke execute on function old.count from public": "old.count(uuid)",
    "revoke delete on old.things from skald_app": "old.things",
    "revoke insert on old.things from skald_app; grant insert (size) on old.things to skald_app": (
        "old.things.name"
    ),
    "alter policy tenant_isolation on old.things using (false)": "old.things",
    "create policy more on old.things as restrictive using (size > 0)": "old.things",
    "alter domain old.state add check (value <> 'done')": "old.state",
}
"""What a migration may not do, and what it takes from the old schema."""
EXPANDING: tuple[LiteralString, ...] = (
    "create table old.others (tenant_id uuid not null, check (tenant_id is not null))",
    "alter table old.things add owner text",
    "alter table old.things add owner text not null default 'nobody'",
    "alter table old.things alter size drop not null",
    "alter table old.things alter size set default 1",
    "create index on old.things (size)",
    "create function old.count(tenant uuid, state text) returns bigint language sql return 1",
    "create or replace function old.count(tenant uuid) returns bigint language sql return 2",
    "create or replace view old.names as select tenant_id, name, size from old.things",
    "create policy relay on old.things to skald_relay using (true)",
    "grant select on old.things to skald_relay",
    "alter domain old.state drop constraint state_check",
)
"""Changes that the last release does not notice."""


def _broken_by(servers: Servers, migration: LiteralString) -> set[str]:
    with psycopg.connect(servers.admin_dsn) as connection:
        connection.execute(OLD)
        before = read_schema(connection)
        connection.execute(migration)
        broken = before.broken_by(read_schema(connection))
        connection.rollback()
    return {name for name, _ in broken}


@pytest.mark.parametrize(("migration", "name"), BREAKING.items())
def test_what_takes_something_away_is_found(
    servers: Servers, migration: LiteralString, name: str
) -> None:
    """C-04: a statement of the last release would fail, or see other rows."""
    assert name in _broken_by(servers, migration)


@pytest.mark.parametrize("migration", EXPANDING)
def test_what_expands_is_allowed(servers: Servers, migration: LiteralString) -> None:
    """C-04: a migration may add things that the last release does not know."""
    assert _broken_by(servers, migration) == set()


def test_a_contract_covers_what_it_names() -> None:
    """C-04: a table with its columns, a column alone."""
    assert is_covered("old.things.size", {"old.things"})
    assert is_covered("old.things.size", {"old.things.size"})
    assert not is_covered("old.things.size", {"old.things.state", "old.thing"})
