"""C-04: the schema brings itself up to date, and can be asked to at any time."""

from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.integration.conftest import Servers
from tests.integration.support import event, together
from yoyo import get_backend, read_migrations

from operations.migrations import KERNEL, apply


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
    assert applied[0] == "0001.kernel"
    assert "0001.batches" in applied
    assert apply(empty_database) == []


def test_two_deployments_at_once_apply_each_migration_once(empty_database: str) -> None:
    """C-04: the second waits for the first, and then has nothing to do."""
    one, two = together(*[partial(apply, empty_database)] * 2)
    assert bool(one) != bool(two)
    assert len(one + two) == len(set(one + two))


def test_tickets_of_nobody_known_do_not_hold_up_the_migration(
    servers: Servers, empty_database: str
) -> None:
    """C-04: `0023` asks of every ticket whose key fetched it, and finds some that cannot say."""
    _apply_before("0023", empty_database)
    with psycopg.connect(_at(servers.admin_dsn)) as connection:
        connection.execute(
            "insert into skald.tickets values"
            " (gen_random_uuid(), sha256('ticket'), '/batches', 'someone', now())"
        )
    assert "0023.tickets_of_keys" in apply(empty_database)


def test_events_keep_state_and_document_and_learn_their_chain(
    servers: Servers, empty_database: str
) -> None:
    """C-04, W-08: `0027` reads every event that is there, whosever it is; each can be replayed."""
    _apply_before("0027", empty_database)
    tenant = uuid4()
    begun, followed = event(tenant, "a"), event(tenant, "b", correlation_id="chain")
    with psycopg.connect(_at(servers.admin_dsn)) as connection:
        for given in (begun, followed):
            connection.execute(
                """
                with stored as (
                    insert into skald.outbox
                        (tenant_id, event_id, event_type, aggregate, envelope, status)
                    values (%s, %s, 'thing.happened', 'thing', %s, 'failed')
                    returning tenant_id, event_id, envelope)
                insert into skald.dead_letters (tenant_id, event_id, source, envelope, error)
                select tenant_id, event_id, 'outbox', envelope, 'refused' from stored
                """,
                (tenant, given.event_id, Jsonb(given.model_dump(mode="json"))),
            )
    apply(empty_database)
    with psycopg.connect(_at(servers.admin_dsn)) as connection:
        connection.execute("select set_config('app.current_tenant', %s, true)", (str(tenant),))
        connection.execute("select skald.replay(dead_letter_id, 'me') from skald.dead_letters")
        rows = connection.execute(
            "select correlation_id, status, event.envelope, letter.envelope"
            " from skald.outbox as event join skald.dead_letters as letter using (event_id)"
            " order by position"
        ).fetchall()
    documents = [given.model_dump(mode="json") for given in (begun, followed)]
    assert rows == [
        (str(begun.event_id), "pending", documents[0], documents[0]),
        ("chain", "pending", documents[1], documents[1]),
    ]


def test_entries_stay_found_embedded_or_not(servers: Servers, empty_database: str) -> None:
    """C-04, V-09: `0029` gives each current entry a row to search, with its vector if any."""
    _apply_before("0029", empty_database)
    tenant = uuid4()
    entries = {"embedded": uuid4(), "waiting": uuid4(), "superseded": uuid4()}
    with psycopg.connect(_at(servers.admin_dsn)) as connection:
        connection.execute(
            "insert into skald.knowledge_spaces values (%s, 'model', 3, true)", (tenant,)
        )
        for name, entry_id in entries.items():
            connection.execute(
                "insert into skald.knowledge_entries"
                " (tenant_id, entry_id, version, kind, key, title, text, valid_until)"
                " values (%s, %s, 1, 'note', %s, %s, 'a weak battery', %s)",
                (tenant, entry_id, name, name, "now" if name == "superseded" else None),
            )
        connection.execute(
            "insert into skald.knowledge_embeddings"
            " (tenant_id, embedder, entry_id, dimensions, kind, error_codes, embedding)"
            " values (%s, 'model', %s, 3, 'note', '{}', '[1,0,0]')",
            (tenant, entries["embedded"]),
        )
    apply(empty_database)
    with psycopg.connect(_at(servers.admin_dsn)) as connection:
        row = connection.execute(
            "select sources::json from skald.search_knowledge(%s, '{model}', '[1,0,0]', null,"
            " 'battery', '{}', null, null, '{}', 20, 10, 1, 1)",
            (tenant,),
        ).fetchone()
    assert row is not None
    assert {source["title"]: source["found_by"] for source in row[0]} == {
        "embedded": ["meaning", "words"],
        "waiting": ["words"],
    }


def _apply_before(migration: str, dsn: str) -> None:
    """Bring the kernel's schema to where it was before a migration."""
    backend = get_backend(dsn.replace("postgresql", "postgresql+psycopg", 1))
    earlier = read_migrations(str(KERNEL / "schema")).filter(lambda one: one.id < migration)
    backend.apply_migrations(backend.to_apply(earlier))
    backend.connection.close()
