"""C-04: the schema brings itself up to date, and can be asked to at any time."""

from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from tests.integration.conftest import Servers
from tests.integration.support import together

from operations.migrations import apply


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """The migrator's address of a database in which nothing was ever done."""
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
    """C-04: every migration runs, the second run finds nothing to do."""
    applied = apply(empty_database)
    assert applied[0] == "0001.tenancy"
    assert "0001.batches" in applied
    assert apply(empty_database) == []


def test_two_deployments_at_once_apply_each_migration_once(empty_database: str) -> None:
    """C-04: the second waits for the first, and then has nothing to do."""
    one, two = together(*[partial(apply, empty_database)] * 2)
    assert bool(one) != bool(two)
    assert len(one + two) == len(set(one + two))
