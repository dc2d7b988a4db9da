"""PostgreSQL connections that survive a frozen environment, and transactions bound to a tenant."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor
from psycopg.rows import DictRow, class_row, dict_row

from skald.config import settings
from skald.errors import Unavailable

type Parameters = Sequence[Any] | Mapping[str, Any]

PROBE_AFTER_SECONDS = 5.0
STATEMENT_TIMEOUT = "30s"
LOCK_TIMEOUT = "10s"
IDLE_TIMEOUT = "60s"

_OPEN = """
    select set_config('app.current_tenant', %s, true),
           set_config('statement_timeout', %s, true),
           set_config('lock_timeout', %s, true),
           set_config('idle_in_transaction_session_timeout', %s, true)
"""


class Transaction:
    """An open transaction; what runs inside never commits, the block that opened it does.

    `tenant_id` is the tenant whose rows are visible, None where no tenant table may be touched.
    """

    def __init__(self, connection: Connection[Any], tenant_id: UUID | None) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._after_commit: dict[str, Callable[[], None]] = {}

    @property
    def tenant_id(self) -> UUID:
        """The tenant this transaction acts for; raises `LookupError` where there is none."""
        if self._tenant_id is None:
            raise LookupError("this transaction belongs to no tenant")
        return self._tenant_id

    def execute(self, query: LiteralString, parameters: Parameters = ()) -> Cursor[DictRow]:
        return self._connection.cursor(row_factory=dict_row).execute(query, parameters)

    def execute_many(self, query: LiteralString, rows: Sequence[Parameters]) -> None:
        if rows:
            self._connection.cursor().executemany(query, rows)

    def one[Row](
        self, kind: type[Row], query: LiteralString, parameters: Parameters = ()
    ) -> Row | None:
        """Return the first row as a `kind` built from its columns, or None."""
        return (
            self._connection.cursor(row_factory=class_row(kind))
            .execute(query, parameters)
            .fetchone()
        )

    def all[Row](
        self, kind: type[Row], query: LiteralString, parameters: Parameters = ()
    ) -> list[Row]:
        """Return every row as a `kind` built from its columns."""
        return (
            self._connection.cursor(row_factory=class_row(kind))
            .execute(query, parameters)
            .fetchall()
        )

    def value(self, query: LiteralString, parameters: Parameters = ()) -> Any:
        """Return the first column of the first row, or None."""
        row = self._connection.cursor().execute(query, parameters).fetchone()
        return row[0] if row else None

    def after_commit(self, name: str, action: Callable[[], None]) -> None:
        """Do this once the transaction is safe; registering a name twice does it once."""
        self._after_commit[name] = action

    def committed(self) -> None:
        for action in self._after_commit.values():
            action()


class Database:
    """A few connections of one role, opened when needed, probed when they sat idle.

    No background thread keeps them: a frozen environment would stop it. A connection that sat
    idle longer than `PROBE_AFTER_SECONDS` answers a probe before it is used, so a broken one is
    replaced before any write, never after.
    """

    def __init__(self, dsn: str, size: int = 4, *, wait_seconds: float = 10.0) -> None:
        self._dsn = dsn
        self._size = size
        self._wait_seconds = wait_seconds
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[tuple[Connection[Any], float]] = []

    @contextmanager
    def transaction(self, tenant_id: UUID | None) -> Iterator[Transaction]:
        """Open a transaction for a tenant: commits at the end of the block, rolls back on error.

        Raises `Unavailable` when every connection stays busy (G-01).
        """
        with self._connection() as connection, connection.transaction():
            limits = (STATEMENT_TIMEOUT, LOCK_TIMEOUT, IDLE_TIMEOUT)
            connection.execute(_OPEN, (str(tenant_id or ""), *limits))
            transaction = Transaction(connection, tenant_id)
            yield transaction
        transaction.committed()

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

    @contextmanager
    def _connection(self) -> Iterator[Connection[Any]]:
        if not self._slots.acquire(timeout=self._wait_seconds):
            raise Unavailable(
                f"all {self._size} database connections are busy", headers={"Retry-After": "1"}
            )
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()

    def _take(self) -> Connection[Any]:
        while self._idle:
            # Wall-clock time on purpose: the monotonic clock stands still in a frozen environment.
            connection, since = self._idle.pop()
            if time.time() - since < PROBE_AFTER_SECONDS or _answers(connection):
                return connection
            connection.close()
        # Prepared statements do not survive a transaction pooler such as RDS Proxy or PgBouncer.
        return psycopg.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=5,
            application_name="skald",
        )

    def _give_back(self, connection: Connection[Any]) -> None:
        if connection.closed or connection.broken:
            connection.close()
        else:
            self._idle.append((connection, time.time()))


def _answers(connection: Connection[Any]) -> bool:
    try:
        connection.execute("select 1")
    except psycopg.Error:
        return False
    return True


@cache
def database() -> Database:
    """Return the database of this function's role."""
    return Database(settings().postgres_dsn, settings().postgres_pool_size)


@cache
def lookout() -> Database:
    """Return the database of the role that sees ids and states across tenants, nothing more."""
    return Database(settings().lookout_dsn, size=1)
