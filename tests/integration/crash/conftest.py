"""Runs scenarios in processes, and reads what the processes leave behind."""

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.batches import Fleet
from tests.integration.conftest import Servers
from tests.integration.crash import scenarios
from tests.integration.crash.aws import FolderAws
from tests.integration.crash.pipeline import MACHINE, STAGES, Ground
from tests.integration.crash.scenarios import QUEUES, TASKS, Life
from tests.integration.crash.tracer import Death
from tests.integration.support import event

from skald.command import Command
from skald.messaging import Envelope, outbox
from skald.postgres import Database

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.integration.crash.template"])


@dataclass(frozen=True)
class Lived:
    """What a process reported: the boundaries that it reached, its answer, and how it ended."""

    boundaries: list[str]
    answer: dict[str, Any] | None
    exit_code: int | None

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL


class World:
    """The rows of a tenant and an AWS. Both outlive the processes."""

    def __init__(
        self, life: Life, relay_dsn: str, database: Database, admin: Connection[DictRow]
    ) -> None:
        self._life = life
        self._relay_dsn = relay_dsn
        self._database = database
        self._admin = admin
        self.aws = FolderAws(life.folder)
        self._ground = Ground(Fleet(database, life.tenant), self.aws, admin)

    def run(self, scenario: str, death: Death | None = None) -> Lived:
        """Run a scenario in a new process until it ends or is killed."""
        ours, theirs = _processes.Pipe(duplex=False)
        process = _processes.Process(
            target=scenarios.live, args=(scenario, self._life_of(scenario), death, theirs)
        )
        with ours:
            with theirs:
                process.start()
            told = list(_heard(ours))
        process.join()
        exit_code = process.exitcode
        process.close()
        boundaries = [word for word in told if isinstance(word, str)]
        answer = next((word for word in told if isinstance(word, dict)), None)
        return Lived(boundaries, answer, exit_code)

    def _life_of(self, scenario: str) -> Life:
        if scenario != "relay":
            return self._life
        dsn = {"POSTGRES_DSN": self._relay_dsn}
        return replace(self._life, environment=self._life.environment | dsn)

    def prepare(self, scenario: str) -> None:
        """Create what the scenario starts from."""
        if scenario == "relay":
            with self._database.transaction(self._life.tenant) as tx:
                for taken in self.events():
                    outbox.publish(tx, taken)
        if scenario == "delivery":
            for taken in self.events()[:2]:
                self.aws.send(QUEUES[0], taken.model_dump_json())
        if scenario == "queued_task":
            command = Command(saga_id="case-1", tenant_id=self._life.tenant, trace_id="0" * 32)
            told = command.model_dump(mode="json") | {"task_token": "token"}
            self.aws.send(TASKS, json.dumps(told))
        if scenario in STAGES:
            batch_id = STAGES[scenario].prepare(self._ground)
            self._life = replace(self._life, batch=batch_id)

    def check(self, scenario: str) -> None:
        """Check what holds after a stage of a batch."""
        STAGES[scenario].holds(self._ground, self._life.batch)

    def events(self) -> list[Envelope]:
        """Return two events of one queue and one of another."""
        tenant = self._life.tenant
        others = event(tenant, "c", event_type="file.parse")
        return [event(tenant, "a"), event(tenant, "b"), others]

    def end_leases(self) -> None:
        """Move all leases back, so that a dead process holds nothing any more."""
        self._admin.execute(
            "update skald.outbox set leased_until = now() - interval '1 s'"
            " where leased_until is not null"
        )
        self._admin.execute(
            "update skald.saga_transactions set updated_at = now() - interval '1 hour'"
        )

    def marks(self) -> Counter[str]:
        """Return how many events of each type are in the tenant's outbox."""
        return self._count("select event_type from skald.outbox where tenant_id = %s")

    def statuses(self) -> Counter[str]:
        """Return how many of the tenant's events have each status."""
        return self._count("select status from skald.outbox where tenant_id = %s")

    def _count(self, query: LiteralString) -> Counter[str]:
        found = self._admin.execute(query, (self._life.tenant,))
        return Counter(value for row in found for value in row.values())


def _heard(ours: Pipe) -> Iterator[Any]:
    try:
        while True:
            yield ours.recv()
    except EOFError:
        return


@pytest.fixture
def world(
    servers: Servers,
    database: Database,
    admin: Connection[DictRow],
    tenant: UUID,
    api_key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """A world without any event."""
    # The template process finds its imports by this alone. Without it nothing is imported,
    # silently.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    # Relays, sweeper and reconciler see all tenants.
    admin.execute("truncate skald.outbox, skald.dead_letters, skald.saga_transactions")
    admin.execute("truncate batches.batches, skald.fanouts cascade")
    environment = dict(os.environ) | {
        "QUEUE_URLS": "skald-",
        "RELAY_DOORBELL_QUEUE_URL": "bell",
        "BATCH_PIPELINE_ARN": MACHINE,
    }
    life = Life(environment, tmp_path, tenant, api_key, batch=uuid4())
    return World(life, servers.relay_dsn, database, admin)
