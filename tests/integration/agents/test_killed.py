"""V-08, G-03, G-04: after a kill at any node a diagnosis continues and repeats no call."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.agents.cases import strange_case
from tests.integration.agents.investigator import SIDE_BY_SIDE
from tests.integration.agents.listener import Listener
from tests.integration.conftest import ROOT, Servers
from tests.integration.model_endpoint import ModelEndpoint

from batches.agents import Case, investigate
from batches.agents.graph import TYPES
from batches.analysis.findings import Diagnosis
from skald.checkpoints import Checkpointer
from skald.models import Desk
from skald.postgres import Database

NODES = [
    "supervisor",
    *sorted(SIDE_BY_SIDE),
    "diagnosis_expert",
    "deep_retrieval",
    "second_look",
    "conclusion",
]
MOMENTS = [
    *(("finished", node) for node in NODES),
    ("entered", "log_expert:text"),
    *(("entered", node) for node in NODES[4:]),
]
"""The end of each node before its record is written, and the start of the next node after that."""
CALLS = 4
"""Two log experts, the diagnosis expert, its review."""


def timeless(diagnosis: Diagnosis) -> dict[str, Any]:
    return diagnosis.model_dump(exclude={"path": {"__all__": {"seconds"}}})


def killed(
    servers: Servers, endpoint: ModelEndpoint, case: Case, folder: Path, moment: str, node: str
) -> int:
    """Diagnose in a process that dies. Returns how it ended."""
    file = folder / "case.json"
    file.write_text(case.model_dump_json())
    paths = [str(ROOT), str(ROOT / "layers" / "core"), str(ROOT / "functions")]
    script = Path(__file__).with_name("investigator.py")
    return subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, script, file, "t", moment, node],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(paths),
            "POSTGRES_DSN": servers.app_dsn,
            "REDIS_DSN": servers.redis_dsn,
            "MODEL": endpoint.setting,
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        },
        check=False,
        timeout=60,
    ).returncode


def end_leases(admin: Connection[DictRow], tenant: UUID) -> None:
    """Move the leases back, so that a dead process counts as dead."""
    for table in ("checkpoint_threads", "model_answers"):
        admin.execute(
            f"update skald.{table} set leased_until = now() - interval '1 s'"  # noqa: S608
            " where tenant_id = %s",
            [tenant],
        )


@pytest.mark.parametrize(("moment", "node"), MOMENTS)
def test_a_killed_investigation_goes_on(
    servers: Servers,
    endpoint: ModelEndpoint,
    desk: Desk,
    tenant: UUID,
    other_tenant: UUID,
    admin: Connection[DictRow],
    tmp_path: Path,
    moment: str,
    node: str,
) -> None:
    """G-04, V-13: no finished node runs again, no call is repeated, the result is the same."""
    case = strange_case(tenant)
    assert killed(servers, endpoint, case, tmp_path, moment, node) == -signal.SIGKILL
    end_leases(admin, tenant)
    listener = Listener()
    resumed = investigate(case, thread_id="t", desk=desk, watcher=listener)
    assert len(endpoint.asked) == CALLS
    assert set(endpoint.prompts.values()) == {1}
    undone = SIDE_BY_SIDE if node in SIDE_BY_SIDE else {node}
    finished = set(NODES[: NODES.index(node)]) - undone
    assert not finished & set(listener.nodes("entered"))
    undisturbed = case.model_copy(update={"tenant_id": other_tenant})
    assert timeless(resumed) == timeless(investigate(undisturbed, thread_id="t", desk=desk))


def test_an_ended_investigation_returns_its_result(
    endpoint: ModelEndpoint, desk: Desk, database: Database, tenant: UUID
) -> None:
    """G-03: its state holds the diagnosis under the execution's id, so no model is asked."""
    case = strange_case(tenant)
    first = investigate(case, thread_id="t", desk=desk)
    state = Checkpointer(database, tenant, types=TYPES).state("t")
    assert state is not None
    assert state["diagnosis"] == first
    assert investigate(case, thread_id="t", desk=desk) == first
    assert len(endpoint.asked) == CALLS
