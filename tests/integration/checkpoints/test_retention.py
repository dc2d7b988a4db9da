"""G-02: threads without activity are deleted; threads that wait for a person are not."""

from collections.abc import Iterator
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.checkpoints.graphs import Walk, checkpoint
from tests.integration.support import retention, wait_until_unseen

from skald.checkpoints import Checkpointer
from skald.postgres import Database
from skald.retention import delete_threads

KEPT = retention("checkpoint_threads").kept
TABLES = ("checkpoint_threads", "checkpoints", "checkpoint_values", "checkpoint_writes")
# Includes what a session has counted and not yet reported to the statistics.
PAGES_READ = "select pg_stat_get_xact_blocks_fetched('skald.checkpoint_threads'::regclass)"
IN_PLACE = """
    select pg_stat_get_xact_tuples_hot_updated('skald.checkpoint_threads'::regclass) as value
"""


def value(admin: Connection[DictRow], query: LiteralString) -> int:
    row = admin.execute(query).fetchone()
    assert row is not None
    return int(row["value"])


def saved(saver: Checkpointer, thread: str) -> None:
    start: Walk = {"steps": [], "document": "x" * 1000}
    config = saver.put(
        {"configurable": {"thread_id": thread}}, checkpoint({**start}, 1), {}, {"document": 1}
    )
    saver.put_writes(config, [("steps", ["plan"])], "task")


def age(admin: Connection[DictRow], tenant: UUID, *threads: str) -> None:
    admin.execute(
        "update skald.checkpoint_threads set leased_until = leased_until - %s"
        " where tenant_id = %s and thread_id = any(%s)",
        [KEPT + timedelta(days=1), tenant, list(threads)],
    )


def test_threads_without_activity_are_deleted(
    database: Database, relay_database: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02: with all their rows; running, recent and parked threads stay complete."""
    saver = Checkpointer(database, tenant)
    for thread in ("old", "young", "parked"):
        saved(saver, thread)
    age(admin, tenant, "old", "parked")
    admin.execute(
        "update skald.checkpoint_threads set parked_at = now(), last_error = 'disk'"
        " where tenant_id = %s and thread_id = 'parked'",
        [tenant],
    )
    with saver.writing("running"), relay_database.transaction(None) as tx:
        assert delete_threads(tx, KEPT) == 1
        assert delete_threads(tx, KEPT) == 0
    for table in TABLES:
        left = admin.execute(
            f"select distinct thread_id from skald.{table}"  # noqa: S608 (our own names)
            " where tenant_id = %s and thread_id <> 'running'",
            [tenant],
        )
        assert {row["thread_id"] for row in left} == {"young", "parked"}, table


def test_a_thread_that_is_resumed_is_young_again(
    database: Database, relay_database: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02: the age of a thread counts from the end of its last writer."""
    saver = Checkpointer(database, tenant)
    saved(saver, "t")
    age(admin, tenant, "t")
    with saver.writing("t"):
        pass
    with relay_database.transaction(None) as tx:
        assert delete_threads(tx, KEPT) == 0
    assert saver.state("t") == {"steps": [], "document": "x" * 1000}


@pytest.fixture
def pages(admin: Connection[DictRow], tenant: UUID) -> Iterator[int]:
    """Threads of two weeks on pages that held older threads before. Returns the number of pages."""
    insert = (
        "insert into skald.checkpoint_threads (tenant_id, thread_id, leased_until)"
        " select %s, %s || n, now() - n * interval '1 min' - %s from generate_series(1, 20000) as n"
    )
    delete = "delete from skald.checkpoint_threads where tenant_id = %s and thread_id like %s"
    admin.execute(insert, [tenant, "past", 2 * KEPT])
    admin.execute(delete, [tenant, "past%"])
    wait_until_unseen(admin)
    admin.execute("vacuum (truncate off) skald.checkpoint_threads")
    admin.execute(insert, [tenant, "present", timedelta()])
    admin.execute("vacuum analyze skald.checkpoint_threads")
    yield value(admin, "select pg_relation_size('skald.checkpoint_threads') / 8192 as value")
    admin.execute(delete, [tenant, "%"])


def test_the_old_are_found_without_a_look_at_the_young(
    relay_database: Database, tenant: UUID, admin: Connection[DictRow], pages: int
) -> None:
    """G-02: retention uses an index, also after recent threads reuse the pages of old ones."""
    age(admin, tenant, "present1")
    with relay_database.transaction(None) as tx:
        before = tx.value(PAGES_READ)
        assert delete_threads(tx, KEPT) == 1
        assert tx.value(PAGES_READ) - before < pages / 10


def test_a_renewed_lease_touches_no_index(admin: Connection[DictRow], tenant: UUID) -> None:
    """G-02: a run renews its lease often; an index on the lease would grow at each renewal."""
    admin.execute(
        "insert into skald.checkpoint_threads (tenant_id, thread_id, leased_until)"
        " values (%s, 't', '2025-11-14 12:00Z')",
        [tenant],
    )
    with admin.transaction():
        before = value(admin, IN_PLACE)
        admin.execute(
            "update skald.checkpoint_threads set leased_until = leased_until + interval '30 s'"
            " where tenant_id = %s",
            [tenant],
        )
        assert value(admin, IN_PLACE) - before == 1
