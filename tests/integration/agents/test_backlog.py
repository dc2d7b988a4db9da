"""V-13: with any backlog a few calls reach the model at once, and no diagnosis is lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from tests.integration.agents.backlog import give_back
from tests.integration.agents.test_killed import end_leases
from tests.integration.conftest import ROOT, Servers
from tests.integration.model_endpoint import ModelEndpoint, Reply, always
from tests.integration.support import wait_until
from tests.unit.analysis.samples import parsed

from batches.analysis.statistics import gather_statistics
from batches.publishing import Gathered

BATCHES = 1000
PLACES = 3
WORKERS = 5
CALLS = 2
"""The calls of each diagnosis: one log expert, and the diagnosis expert, which is sure."""
type Process = subprocess.Popen[bytes]

SAG = '{"summary": "The supply sags."}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("waiting", "taken", "tokens"):
        (tmp_path / name).mkdir()
    return tmp_path


def gathered_batches(admin: Connection[DictRow], tenant: UUID) -> list[UUID]:
    """Batches of one small file each, as the gather leaves them; each file is different."""
    batches = [uuid4() for _ in range(BATCHES)]
    with admin.cursor() as cursor, admin.transaction():
        for table, rows in _rows(tenant, batches).items():
            marks = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(f"insert into {table} values ({marks})", rows)  # noqa: S608
    return batches


def _rows(tenant: UUID, batches: list[UUID]) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of each table, parents first."""
    rows: dict[str, list[tuple[object, ...]]] = {
        "batches.batches (tenant_id, batch_id, name, status, total_files, processed_files,"
        " timeout_seconds, trace_id, statistics)": [],
        "batches.files (tenant_id, batch_id, file_id, name, key)": [],
        "skald.fanouts (tenant_id, saga_id, name, total, finished, finished_at)": [],
        "skald.task_executions (tenant_id, saga_id, name, task_id, status, result,"
        " finished_at)": [],
    }
    for number, batch_id in enumerate(batches):
        name = f"v{number}.log"
        file = parsed(name, {"E2107": 40}, critical={"E2107": f"BROWNOUT at stop {number}"})
        assert file.features is not None
        figures = Gathered(statistics=gather_statistics([file]), charts={}).model_dump(mode="json")
        now = datetime.now(UTC)
        of_batch, of_file, of_fanout, of_task = rows.values()
        of_batch.append((tenant, batch_id, name, "gathered", 1, 1, 60, "b" * 32, Jsonb(figures)))
        of_file.append((tenant, batch_id, batch_id, name, name))
        features = Jsonb(file.features.model_dump(mode="json"))
        of_fanout.append((tenant, str(batch_id), "parse", 1, 1, now))
        of_task.append((tenant, str(batch_id), "parse", str(batch_id), "completed", features, now))
    return rows


def queue(folder: Path, tenant: UUID, batches: list[UUID]) -> None:
    for batch_id in batches:
        ids = {"saga_id": batch_id, "batch_id": batch_id, "tenant_id": tenant}
        told = {name: str(value) for name, value in ids.items()} | {"task_token": str(batch_id)}
        (folder / "waiting" / str(batch_id)).write_text(json.dumps(told))


def worker(servers: Servers, endpoint: ModelEndpoint, folder: Path) -> Process:
    parts = ("", "layers/core", "functions", "scripts", "scripts/platform")
    return subprocess.Popen(  # noqa: S603 (our own script)
        [sys.executable, Path(__file__).with_name("backlog.py"), folder],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(str(ROOT / part) for part in parts),
            "POSTGRES_DSN": servers.app_dsn,
            "REDIS_DSN": servers.redis_dsn,
            "MODEL": endpoint.setting,
            "MODEL_CONCURRENCY": str(PLACES),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        },
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def working(
    start: Callable[[], subprocess.Popen[bytes]],
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run workers for the block, and none after it."""
    workers = [start() for _ in range(WORKERS)]
    try:
        yield workers
    finally:
        for process in workers:
            process.kill()
            process.wait()


def count(admin: Connection[DictRow], query: LiteralString, tenant: UUID) -> int:
    row = admin.execute(query, [tenant]).fetchone()
    assert row is not None
    return int(row["count"])


@pytest.mark.timeout(900)
def test_a_thousand_queued_diagnoses_a_few_calls_at_a_time_none_lost(
    servers: Servers,
    endpoint: ModelEndpoint,
    admin: Connection[DictRow],
    tenant: UUID,
    folder: Path,
) -> None:
    """V-13, G-04: five workers, three places, one worker is killed in the middle of its work.

    Each batch is diagnosed once and its pipeline gets the answer. No question reaches the model
    twice, except those that the killed worker was waiting for.
    """
    endpoint.script = always(Reply(SAG, seconds=0.05))
    batches = gathered_batches(admin, tenant)
    queue(folder, tenant, batches)
    start = partial(worker, servers, endpoint, folder)
    with working(start) as workers:
        wait_until(lambda: len(endpoint.asked) > 100, "some calls", seconds=240)
        workers[0].send_signal(signal.SIGKILL)
        workers[0].wait()
        end_leases(admin, tenant)
        for message in (folder / "taken").glob(f"{workers[0].pid} *"):
            give_back(folder, message)
        workers[0] = start()
        assert [process.wait(timeout=600) for process in workers] == [0] * WORKERS
    assert endpoint.most_at_once == PLACES
    assert BATCHES * CALLS <= len(endpoint.asked) <= BATCHES * CALLS + 1
    assert {path.name for path in (folder / "tokens").iterdir()} == {*map(str, batches)}
    stored = "select count(*) from batches.diagnoses where tenant_id = %s"
    recorded = "select count(*) from skald.saga_steps where tenant_id = %s and status = 'completed'"
    assert count(admin, stored, tenant) == count(admin, recorded, tenant) == BATCHES
