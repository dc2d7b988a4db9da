"""Starts a temporary PostgreSQL and Valkey for one run, in their own folder and on free ports."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import override
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from stack.part import Part
from stack.postgres import Postgres
from stack.settings import HOST, Settings
from stack.valkey import Valkey

from skald.access.keys import create_api_key
from skald.postgres import Database


@dataclass(frozen=True)
class Servers:
    """The addresses of both servers, for each role; the schema is up to date."""

    admin_dsn: str
    migrator_dsn: str
    app_dsn: str
    relay_dsn: str
    redis_dsn: str

    def database_of(self, peer: str) -> str:
        """Create a database for a peer's tables; return its address for the administrator."""
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(peer)))
        return urlunsplit(urlsplit(self.admin_dsn)._replace(path=f"/{peer}"))

    def new_tenant(self) -> tuple[UUID, str]:
        """Create a tenant and return its id and an API key."""
        tenant_id = uuid4()
        database = Database(self.migrator_dsn)
        with database.transaction(None) as transaction:
            key = create_api_key(transaction, tenant_id, "benchmark")
        database.close()
        return tenant_id, key

    def administer(self, *statements: str) -> None:
        """Run statements on our database as the administrator, each in its own transaction."""
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


class _Measured(Postgres):
    """PostgreSQL configured like a 4 GB server; with `fsync`, a commit waits for the disk."""

    def __init__(self, settings: Settings, *, fsync: bool) -> None:
        super().__init__(settings)
        switch = "on" if fsync else "off"
        self._own = {"shared_buffers": "1GB", "fsync": switch, "full_page_writes": switch}

    @override
    def _server_settings(self) -> dict[str, str]:
        return super()._server_settings() | self._own


@contextmanager
def running(root: Path, *, fsync: bool) -> Iterator[Servers]:
    """Start both servers, apply the migrations, and stop the servers at exit.

    It sets `POSTGRES_DSN` and `REDIS_DSN` for this process.
    """
    with TemporaryDirectory(prefix="bench-state-", dir=root / ".local") as folder:
        Path(folder).chmod(0o755)  # for root, PostgreSQL runs as another user, who needs access
        settings = _settings(root, Path(folder))
        postgres = _Measured(settings, fsync=fsync)
        valkey = Valkey(settings)
        with ExitStack() as stopping:
            for part in (postgres, valkey):
                part.launch()
                stopping.callback(part.stop)
            _await(postgres, valkey)
            servers = Servers(
                admin_dsn=postgres.admin_dsn,
                migrator_dsn=postgres.role_dsn("migrator"),
                app_dsn=postgres.role_dsn("app"),
                relay_dsn=postgres.role_dsn("relay"),
                redis_dsn=valkey.dsn,
            )
            _migrate(servers)
            os.environ |= {"POSTGRES_DSN": servers.app_dsn, "REDIS_DSN": servers.redis_dsn}
            yield servers


def _settings(root: Path, state: Path) -> Settings:
    postgres, valkey, aws = _free_ports(3)
    return Settings(
        root=root,
        state=state,
        postgres_port=postgres,
        valkey_port=valkey,
        aws_port=aws,
        own_postgres=None,
        own_redis=None,
        own_aws=None,
        freeze=False,
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as bound:
        sockets = [bound.enter_context(socket.socket()) for _ in range(count)]
        for candidate in sockets:
            candidate.bind((HOST, 0))
        return [candidate.getsockname()[1] for candidate in sockets]


def _await(*parts: Part) -> None:
    for part in parts:
        part.wait()
        part.finish()


def _migrate(servers: Servers) -> None:
    from operations.migrations import apply

    apply(servers.migrator_dsn)
