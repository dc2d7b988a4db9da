"""G-02: what nobody resumes any more is deleted, what waits for a person is not."""

from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.checkpoints.graphs import Walk, checkpoint

from operations.relay import THREADS_RETENTION
from skald.checkpoints import Checkpointer
from skald.retention import forget_threads
from skald.state.postgres import Database

TABLES = ("checkpoint_threads", "checkpoints", "checkpoint_values", "checkpoint_writes")


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
        [THREADS_RETENTION, tenant, list(threads)],
    )


def test_threads_nobody_writes_any_more_are_forgotten(
    database: Database, relay_database: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02: with all that is theirs; the running, the young and the parked stay whole."""
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
        assert forget_threads(tx, THREADS_RETENTION) == 1
        assert forget_threads(tx, THREADS_RETENTION) == 0
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
    """G-02: it ages from the end of its last writer."""
    saver = Checkpointer(database, tenant)
    saved(saver, "t")
    age(admin, tenant, "t")
    with saver.writing("t"):
        pass
    with relay_database.transaction(None) as tx:
        assert forget_threads(tx, THREADS_RETENTION) == 0
    assert saver.state("t") == {"steps": [], "document": "x" * 1000}
