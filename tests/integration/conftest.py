"""Servers on free ports, the environment of a function, and tenants, for integration tests.

Each worker process has its own servers and its own database, a copy of a template that the
migrations filled once. Each test has its own tenants, so tests do not see each other's rows.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from moto import mock_aws
from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from stack.postgres import Postgres
from stack.settings import Settings
from stack.valkey import Valkey
from tests.integration.batches import Fleet
from tests.integration.s3_watch import S3Watch
from tests.integration.support import Client, MortalValkey, launch, wait_until_up
from tests.ports import free_ports

import skald.aws
import skald.config
import skald.postgres
import skald.valkey
from operations.library import NAME, load_library
from operations.migrations import apply
from skald.access import keys
from skald.aws import client
from skald.knowledge.entries import Loaded
from skald.knowledge.store import SHARED, load
from skald.postgres import Database

ROOT = Path(__file__).parents[2]
UPLOADS = "uploads"
ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class Servers:
    """The addresses of the servers, and the roles of PostgreSQL."""

    admin_dsn: str
    migrator_dsn: str
    app_dsn: str
    relay_dsn: str
    redis_dsn: str


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and Valkey of this worker process, and its database."""
    with tempfile.TemporaryDirectory(prefix="skald-test-", ignore_cleanup_errors=True) as folder:
        settings = _settings(Path(folder))
        postgres, valkey = Postgres(settings), Valkey(settings)
        try:
            for part in (postgres, valkey):
                launch(part)
            for part in (postgres, valkey):
                wait_until_up(part)
                part.finish()
            yield _prepared(postgres, valkey)
        finally:
            valkey.stop()
            postgres.stop()
            shutil.rmtree(postgres.data, ignore_errors=True)


def _settings(state: Path) -> Settings:
    state.chmod(0o755)  # PostgreSQL needs it where tests run as root
    postgres_port, valkey_port = free_ports(2)
    return Settings(
        root=ROOT,
        state=state,
        postgres_port=postgres_port,
        valkey_port=valkey_port,
        aws_port=0,
        own_postgres=None,
        own_redis=None,
        own_aws=None,
        freeze=False,
    )


def _prepared(postgres: Postgres, valkey: Valkey) -> Servers:
    """Fill the template with the migrations and copy it."""
    apply(postgres.role_dsn("migrator"))
    with psycopg.connect(_at(postgres.admin_dsn, "postgres"), autocommit=True) as connection:
        connection.execute("create database skald_test template skald owner skald_migrator")
    return Servers(
        admin_dsn=_at(postgres.admin_dsn, "skald_test"),
        migrator_dsn=_at(postgres.role_dsn("migrator"), "skald_test"),
        app_dsn=_at(postgres.role_dsn("app"), "skald_test"),
        relay_dsn=_at(postgres.role_dsn("relay"), "skald_test"),
        redis_dsn=valkey.dsn,
    )


def _at(dsn: str, database: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="module")
def environment(servers: Servers) -> Iterator[None]:
    """The environment variables of a deployed function. What was cached from others is cleared."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.delenv("RELAY_DOORBELL_QUEUE_URL", raising=False)
        values = {
            "POSTGRES_DSN": servers.app_dsn,
            "LOOKOUT_DSN": servers.relay_dsn,
            "REDIS_DSN": servers.redis_dsn,
            "POSTGRES_POOL_MAX": "8",
            "UPLOADS_BUCKET": UPLOADS,
            "ARTIFACTS_BUCKET": ARTIFACTS,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in values.items():
            patch.setenv(name, value)
        _forget()
        yield
        skald.postgres.database().close()
        skald.postgres.lookout().close()
        skald.valkey.valkey().close()
        _forget()


def _forget() -> None:
    """Clear all caches, as a new execution environment has none."""
    skald.config.settings.cache_clear()
    skald.postgres.database.cache_clear()
    skald.postgres.lookout.cache_clear()
    skald.valkey.valkey.cache_clear()
    skald.aws._client.cache_clear()
    keys._known.clear()


@pytest.fixture
def configure(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    """Set an environment variable of the functions for this test."""

    def change(name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        skald.config.settings.cache_clear()

    yield change
    skald.config.settings.cache_clear()


@pytest.fixture(scope="module")
def database(environment: None) -> Database:
    """PostgreSQL as the role of the app: the pool that functions use."""
    return skald.postgres.database()


@pytest.fixture(scope="module")
def relay_database(servers: Servers) -> Iterator[Database]:
    """PostgreSQL as the role of the relay."""
    database = Database(servers.relay_dsn, size=8)
    yield database
    database.close()


@pytest.fixture(scope="module")
def migrator_database(servers: Servers) -> Iterator[Database]:
    """PostgreSQL as the role that owns the tables."""
    database = Database(servers.migrator_dsn, size=1)
    yield database
    database.close()


@pytest.fixture(scope="module")
def admin(servers: Servers) -> Iterator[Connection[DictRow]]:
    """A connection of a superuser, which sees all rows and sets clocks back."""
    with psycopg.connect(servers.admin_dsn, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture(scope="module")
def valkey(environment: None) -> redis.Redis:
    """The client of Redis that functions use."""
    return skald.valkey.valkey()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[MortalValkey]:
    """A Valkey for this test alone. The test may stop it."""
    server = Valkey(_settings(tmp_path))
    mortal = MortalValkey(server)
    mortal.start()
    yield mortal
    mortal.stop()


@pytest.fixture(scope="session")
def no_valkey() -> Iterator[str]:
    """An address without a Redis. No other server can get it during the test."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{silent.getsockname()[1]}/0"


@pytest.fixture(scope="module")
def aws(environment: None) -> Iterator[None]:
    """S3, SQS and Step Functions in this process, with the two buckets."""
    with mock_aws():
        skald.aws._client.cache_clear()
        for bucket in (UPLOADS, ARTIFACTS):
            client("s3").create_bucket(Bucket=bucket)
        yield
        skald.aws._client.cache_clear()


@pytest.fixture(autouse=True)
def s3_watch(request: pytest.FixtureRequest) -> Iterator[S3Watch | None]:
    """The watch of S3: every test that uses S3 fails if a call is made under a row lock."""
    if "aws" not in request.fixturenames:
        yield None
        return
    request.getfixturevalue("aws")
    watch = S3Watch(request.getfixturevalue("admin"))
    with watch.watching():
        yield watch
    assert watch.under_lock == []


@pytest.fixture
def calls(s3_watch: S3Watch | None) -> list[str]:
    """The operations of S3 that the test has called."""
    assert s3_watch is not None
    return s3_watch.calls


@pytest.fixture(scope="module")
def pipeline(aws: None) -> Iterator[str]:
    """The ARN of a state machine that never moves; the functions know it."""
    arn = client("stepfunctions").create_state_machine(
        name="batch-pipeline",
        definition='{"StartAt": "S", "States": {"S": {"Type": "Succeed"}}}',
        roleArn="arn:aws:iam::123456789012:role/test",
    )["stateMachineArn"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_PIPELINE_ARN", arn)
        yield arn


@pytest.fixture
def answered(aws: None) -> Iterator[list[str]]:
    """The task tokens that get an answer during the test."""
    tokens: list[str] = []

    def note(params: dict[str, Any], **_: object) -> None:
        tokens.append(params["taskToken"])

    events = client("stepfunctions").meta.events
    events.register("provide-client-params.stepfunctions.SendTaskSuccess", note)
    yield tokens
    events.unregister("provide-client-params.stepfunctions.SendTaskSuccess", note)


@pytest.fixture
def tenant() -> UUID:
    """A new tenant for this test."""
    return uuid4()


@pytest.fixture
def other_tenant() -> UUID:
    """A second tenant. For it nothing of the first may exist."""
    return uuid4()


@pytest.fixture
def api_key(migrator_database: Database, tenant: UUID) -> str:
    """An API key of the tenant."""
    return new_key(migrator_database, tenant)


@pytest.fixture
def other_api_key(migrator_database: Database, other_tenant: UUID) -> str:
    """An API key of the other tenant."""
    return new_key(migrator_database, other_tenant)


def new_key(migrator: Database, tenant: UUID) -> str:
    with migrator.transaction(None) as tx:
        return keys.create_api_key(tx, tenant, "test")


@pytest.fixture
def fleet(database: Database, tenant: UUID) -> Fleet:
    """The tenant's batches."""
    return Fleet(database, tenant)


@pytest.fixture
def api(aws: None, database: Database, api_key: str) -> Client:
    """The batches API, called with the tenant's key."""
    return Client(api_key)


@pytest.fixture
def foreign_api(aws: None, database: Database, other_api_key: str) -> Client:
    """The batches API, called with the other tenant's key."""
    return Client(other_api_key)


@pytest.fixture
def library(migrator_database: Database) -> Iterator[Loaded]:
    """The library, loaded for this test and removed after it; the result of the load."""
    yield load_library(migrator_database)
    with migrator_database.transaction(SHARED) as tx:
        load(tx, NAME, [])
