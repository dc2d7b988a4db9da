"""Fixtures for the idempotency tests: a client of the orders API, counts, child processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.integration.conftest import Servers
from tests.integration.idempotency import orders
from tests.integration.support import Answer, call, proxy_event

from skald.postgres import Database

ROOT = Path(__file__).parents[3]


class Shop:
    """A client of the orders API with one tenant's key."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def event(
        self, article: object, key: str | None = None, path: str = "", **headers: str
    ) -> dict[str, Any]:
        names = {"X-Api-Key": self._api_key, "Content-Type": "application/json"}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            names["Idempotency-Key"] = key
        body = article if isinstance(article, str) and article[:1] == "{" else None
        body = body or json.dumps({"article": article})
        path = path or orders.Way.paths[orders.Way.rows_first]
        return proxy_event("POST", path, body=body, headers=names)

    def __call__(
        self, article: object, key: str | None = None, path: str = "", **headers: str
    ) -> Answer:
        return call(orders.api.handler, self.event(article, key, path, **headers))


@pytest.fixture(params=[False, True], ids=["claim-first", "rows-first"])
def rows_first(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test twice: with the claim before the work, and with it in the first statement."""
    monkeypatch.setattr(orders.Way, "rows_first", request.param)
    return bool(request.param)


@pytest.fixture
def shop(database: Database, api_key: str) -> Shop:
    return Shop(api_key)


@pytest.fixture
def foreign_shop(database: Database, other_api_key: str) -> Shop:
    return Shop(other_api_key)


@pytest.fixture
def count_orders(database: Database) -> Callable[[UUID], int]:
    """Count the committed orders of a tenant."""

    def count(tenant: UUID) -> int:
        with database.transaction(tenant) as tx:
            return orders.orders(tx)

    return count


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that wait for other calls."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


type Spawn = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def spawn(servers: Servers) -> Iterator[Spawn]:
    """Start `child.py`. Returns it when it has printed where it is."""
    children: list[subprocess.Popen[str]] = []
    paths = [ROOT / "functions", ROOT / "layers/core", ROOT / "scripts", ROOT / "scripts/platform"]
    environment = os.environ | {
        "POSTGRES_DSN": servers.app_dsn,
        "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT])),
    }

    def start(*arguments: str, until: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "tests.integration.idempotency.child", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        said = []
        while line := child.stdout.readline().strip():  # type: ignore[union-attr]
            said.append(line)
            if line == until:
                return child
        raise AssertionError(f"the child said {said}, not {until!r}")

    yield start
    for child in children:
        child.kill()
        with suppress(BrokenPipeError):
            child.communicate()


def let_go(child: subprocess.Popen[str]) -> str:
    """Let a waiting child continue. Returns the last line that it printed."""
    output, _ = child.communicate("\n", timeout=30)
    return output.strip().splitlines()[-1]
