"""Fixtures for the tests of messaging: an outbox to fill, relays in their own processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.conftest import Servers
from tests.integration.support import event

from skald.messaging import outbox
from skald.postgres import Database

ROOT = Path(__file__).parents[3]
type Publish = Callable[..., None]
type StartRelay = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def empty_outbox(admin: Connection[DictRow]) -> None:
    """Delete the events of other tests, because relays see all tenants."""
    admin.execute("truncate skald.outbox, skald.dead_letters")


@pytest.fixture
def publish(database: Database) -> Publish:
    """Put numbered events for the given targets into the outbox, one per target in each round."""

    def put(tenant: UUID, targets: list[str], numbers: int = 1) -> None:
        with database.transaction(tenant) as tx:
            for number in range(numbers):
                for target in targets:
                    outbox.publish(tx, event(tenant, target, number))

    return put


@pytest.fixture
def start_relay(servers: Servers) -> Iterator[StartRelay]:
    """Start `child.py`."""
    children: list[subprocess.Popen[str]] = []
    paths = [ROOT / "layers/core", ROOT / "functions", ROOT]
    environment = os.environ | {
        "POSTGRES_DSN": servers.relay_dsn,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.messaging.child"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def said(child: subprocess.Popen[str]) -> list[tuple[str, str, int]]:
    """Return what a child sends until it is done: event id, target, number."""
    assert child.stdout is not None
    sent: list[tuple[str, str, int]] = []
    for line in child.stdout:
        words = line.split()
        if words == ["done"]:
            return sent
        if words[0] == "sent":
            sent.append((words[1], words[2], int(words[3])))
    raise AssertionError("the child ended before it was done")
