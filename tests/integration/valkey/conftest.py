"""Fixtures for the tests of Redis: the truth, caches of several processes, workers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
import redis
from psycopg import Connection
from psycopg.rows import DictRow
from stack.valkey import Valkey
from tests.integration.conftest import Servers, _settings
from tests.integration.support import MortalValkey, launch, wait_until
from tests.integration.valkey import truth
from tests.integration.valkey.process import Process
from tests.integration.valkey.truth import Truth

from skald.postgres import Database
from skald.valkey import connect
from skald.valkey.cache import Cache


@pytest.fixture(scope="module")
def truth_table(admin: Connection[DictRow]) -> Iterator[None]:
    """A table to cache from."""
    with truth.table(admin):
        yield


@pytest.fixture
def things(truth_table: None, database: Database, tenant: UUID) -> Truth:
    """The tenant's values in PostgreSQL."""
    return Truth(database, tenant)


@pytest.fixture
def new_client(servers: Servers) -> Iterator[Callable[[], redis.Redis]]:
    """A factory of clients. Each has its own connections, as a process has."""
    clients: list[redis.Redis] = []

    def connect_anew() -> redis.Redis:
        clients.append(connect(servers.redis_dsn))
        return clients[-1]

    yield connect_anew
    for client in clients:
        client.close()


@pytest.fixture
def new_cache(new_client: Callable[[], redis.Redis]) -> Callable[[], Cache]:
    """A factory of caches that share only Redis, as the caches of two processes do."""
    return lambda: Cache(new_client())


class _PatientValkey(MortalValkey):
    """A starter that sends a PING: the command line of Valkey is empty while it is rewritten."""

    def start(self) -> None:
        launch(self._server)
        wait_until(self._server.answers, "Valkey to answer")


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[MortalValkey]:
    """A Valkey for this test alone. The test may stop it."""
    valkey = _PatientValkey(Valkey(_settings(tmp_path)))
    valkey.start()
    yield valkey
    valkey.stop()


@pytest.fixture
def own_client(own_valkey: MortalValkey) -> Iterator[redis.Redis]:
    """A client of the test's own Valkey with short timeouts."""
    client = connect(own_valkey.dsn)
    client.connection_pool.connection_kwargs["socket_timeout"] = 0.3
    yield client
    client.close()


@pytest.fixture
def new_worker(
    truth_table: None, servers: Servers, tenant: UUID
) -> Iterator[Callable[[], Process]]:
    """Start worker processes of the tenant. All of them are killed at the end."""
    workers: list[Process] = []

    def start() -> Process:
        workers.append(Process(servers, tenant))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()
