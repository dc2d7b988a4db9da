"""The source of truth behind the caches of the tests: one table of values, read through RLS."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow

from skald.postgres import Database, Transaction


@contextmanager
def table(admin: Connection[DictRow]) -> Iterator[None]:
    """Create the table for the block, with the owner and the isolation of every tenant table."""
    admin.execute(
        """
        drop schema if exists truth cascade;
        create schema truth;
        grant usage on schema truth to skald_app;
        create table truth.things (
            tenant_id uuid, key text, value jsonb not null, primary key (tenant_id, key));
        call skald.isolate_tenants('truth.things');
        grant select, insert, update on truth.things to skald_app;
        """
    )
    yield
    admin.execute("drop schema truth cascade")


def put(tx: Transaction, key: str, value: object) -> None:
    tx.execute(
        """
        insert into truth.things (tenant_id, key, value) values (%s, %s, %s)
        on conflict (tenant_id, key) do update set value = excluded.value
        """,
        (tx.tenant_id, key, json.dumps(value)),
    )


def get(tx: Transaction, key: str) -> Any:
    return tx.value("select value from truth.things where key = %s", (key,))


class Truth:
    """The values of one tenant, and how often they were read."""

    def __init__(self, database: Database, tenant: UUID) -> None:
        self._database = database
        self._tenant = tenant
        self._guard = threading.Lock()
        self.reads = 0

    def write(self, key: str, value: object) -> None:
        with self._database.transaction(self._tenant) as tx:
            put(tx, key, value)

    def read(self, key: str) -> Any:
        with self._guard:
            self.reads += 1
        with self._database.transaction(self._tenant) as tx:
            return get(tx, key)
