"""G-14: the progress of a workflow: Redis answers, PostgreSQL keeps it."""

from uuid import UUID

import pytest
import redis
from tests.integration.support import together

from skald.postgres import Database
from skald.saga.progress import WorkflowProgress
from skald.valkey import connect


@pytest.fixture
def progress(valkey: redis.Redis) -> WorkflowProgress:
    return WorkflowProgress(valkey)


def report(
    progress: WorkflowProgress, database: Database, tenant: UUID, stage: str, percentage: float
) -> bool:
    with database.transaction(tenant) as tx:
        return progress.report(tx, "w1", stage, percentage)


def test_progress_survives_a_flush(
    progress: WorkflowProgress, database: Database, tenant: UUID, valkey: redis.Redis
) -> None:
    """G-14: after a flush of Redis the answer is the same, and Redis has it again."""
    assert report(progress, database, tenant, "grading", 40)
    told = progress.find(database, tenant, "w1")
    valkey.flushall()
    assert progress.find(database, tenant, "w1") == told
    assert valkey.exists(f"workflow_state:{tenant}:w1")


def test_progress_without_redis(database: Database, tenant: UUID, no_valkey: str) -> None:
    """G-14: Redis is away before the report and before the query."""
    client = connect(no_valkey)
    progress = WorkflowProgress(client)
    assert report(progress, database, tenant, "grading", 40)
    found = progress.find(database, tenant, "w1")
    assert found is not None
    assert (found.stage, found.percentage) == ("grading", 40)
    client.close()


def test_a_query_asks_redis_alone(
    progress: WorkflowProgress, database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-14: a query does not reach PostgreSQL while Redis has the answer."""
    report(progress, database, tenant, "grading", 40)
    monkeypatch.setattr(Database, "transaction", None)
    assert progress.find(database, tenant, "w1") is not None


def test_a_crash_before_the_write_to_redis_is_repaired(
    progress: WorkflowProgress, database: Database, tenant: UUID, valkey: redis.Redis
) -> None:
    """G-14: the entry of a running workflow expires in Redis after some seconds."""
    report(progress, database, tenant, "grading", 40)
    assert 0 < int(str(valkey.ttl(f"workflow_state:{tenant}:w1"))) <= 5
    report(progress, database, tenant, "published", 100)
    assert int(str(valkey.ttl(f"workflow_state:{tenant}:w1"))) > 86_000


def test_a_slow_writer_does_not_turn_redis_back(
    progress: WorkflowProgress, database: Database, tenant: UUID
) -> None:
    """G-14: two commits reach Redis in the opposite order; the later progress stays."""
    with database.transaction(tenant) as first:
        progress.report(first, "w1", "grading", 40)
        late = dict(first._after_commit)
        first._after_commit.clear()
    report(progress, database, tenant, "published", 100)
    for action in late.values():
        action()
    found = progress.find(database, tenant, "w1")
    assert found is not None
    assert found.stage == "published"


def test_progress_goes_forward_only(
    progress: WorkflowProgress, database: Database, tenant: UUID
) -> None:
    """G-14: a step that is repeated after a later step changes nothing."""
    assert report(progress, database, tenant, "judging", 60)
    assert not report(progress, database, tenant, "parsing", 30)
    assert not report(progress, database, tenant, "judging", 60)
    assert report(progress, database, tenant, "compensating", 60)
    found = progress.find(database, tenant, "w1")
    assert found is not None
    assert (found.stage, found.version) == ("compensating", 2)


def test_the_highest_of_two_at_once_stays(
    progress: WorkflowProgress, database: Database, tenant: UUID
) -> None:
    """G-14: two real transactions write at once."""
    together(
        *(
            lambda percentage=percentage: report(progress, database, tenant, "grading", percentage)
            for percentage in (10, 90, 50, 70)
        )
    )
    found = progress.find(database, tenant, "w1")
    assert found is not None
    assert found.percentage == 90


def test_a_rolled_back_report_is_not_shown(
    progress: WorkflowProgress, database: Database, tenant: UUID
) -> None:
    """G-14: progress commits with the work that it describes."""

    def work() -> None:
        with database.transaction(tenant) as tx:
            progress.report(tx, "w1", "grading", 40)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert progress.find(database, tenant, "w1") is None


def test_another_tenant_sees_no_progress(
    progress: WorkflowProgress, database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: the same workflow id of another tenant is another workflow, in Redis too."""
    report(progress, database, tenant, "grading", 40)
    assert progress.find(database, other_tenant, "w1") is None
