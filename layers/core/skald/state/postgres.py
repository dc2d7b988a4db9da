"""PostgreSQL connections that survive a frozen environment, and transactions bound to a tenant."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, class_row, dict_row
from psycopg.sql import SQL

from skald.config import settings
from skald.state.probe import answers, is_quiet
from skald.state.slots import PoolExhausted, PoolStatistics, Slots

type Parameters = Sequence[Any] | Mapping[str, Any]

WAIT_SECONDS = 5.0
PROBE_AFTER_SECONDS = 5.0
IDLE_SECONDS = 300.0
PREPARE_AFTER = 2
"""Times a statement runs on a connection before PostgreSQL keeps its plan."""
LIFETIME_SECONDS = 3600.0
STATEMENT_TIMEOUT = "30s"
LOCK_TIMEOUT = "10s"
IDLE_TIMEOUT = "60s"

# One round trip begins a transaction and binds it: without parameters several statements may go at
# once. Everything here is local to the transaction, so nothing leaks through a pooler.
_OPEN = SQL("""
    begin;
    set local statement_timeout = {statement};
    set local lock_timeout = {lock};
    set local idle_in_transaction_session_timeout = {idle};
    select set_config('app.current_tenant', {tenant}, true)
""")


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


class _Pooled(Connection[Any]):
    """A connection that knows its age."""

    opened_at: float


class _Idle(NamedTuple):
    connection: _Pooled
    since: float

    def is_fit(self) -> bool:
        """Say whether it may be used again, asking it where that is not certain."""
        # Wall-clock time on purpose: the monotonic clock stands still in a frozen environment.
        now = time.time()
        if now - self.connection.opened_at > LIFETIME_SECONDS or now - self.since > IDLE_SECONDS:
            return False
        is_certain = now - self.since < PROBE_AFTER_SECONDS and is_quiet(self.connection)
        return is_certain or answers(self.connection)


class Database:
    """A few connections of one role, opened when needed, probed when they sat idle.

    No background thread keeps them: a frozen environment would stop it. A connection that sat
    idle longer than `PROBE_AFTER_SECONDS`, or got word from the server meanwhile, answers a probe
    before it is used, so a broken or frozen one is replaced before any write, never after.
    """

    def __init__(
        self,
        dsn: str,
        size: int = 4,
        *,
        wait_seconds: float = WAIT_SECONDS,
        behind_pooler: bool = False,
    ) -> None:
        self._dsn = dsn
        # Prepared statements do not survive a transaction pooler such as RDS Proxy or PgBouncer.
        self._prepare_threshold = None if behind_pooler else PREPARE_AFTER
        self._slots = Slots(size, wait_seconds)
        self._idle: deque[_Idle] = deque()
        self._replaced = 0

    @contextmanager
    def transaction(self, tenant_id: UUID | None) -> Iterator[Transaction]:
        """Open a transaction for a tenant: commits at the end of the block, rolls back on error.

        Raises `PoolExhausted` when every connection stays busy (G-01).
        """
        with self._connection(tenant_id) as connection:
            transaction = Transaction(connection, tenant_id)
            try:
                yield transaction
            except BaseException:
                with suppress(psycopg.Error):  # a lost connection has rolled back already
                    connection.rollback()
                raise
            connection.commit()
        transaction.committed()

    def statistics(self) -> PoolStatistics:
        """Return what the pool is doing and has done."""
        return self._slots.statistics(idle=len(self._idle), replaced=self._replaced)

    def is_healthy(self) -> bool:
        """Say whether a transaction can be had and answers."""
        try:
            with self.transaction(None) as transaction:
                return transaction.value("select true") is True
        except (psycopg.OperationalError, PoolExhausted):
            return False

    def close(self, wait_seconds: float = 30.0) -> None:
        """Close what is idle, having waited for the transactions under way."""
        self._slots.wait_until_empty(wait_seconds)
        while self._idle:
            self._idle.pop().connection.close()

    @contextmanager
    def _connection(self, tenant_id: UUID | None) -> Iterator[_Pooled]:
        with self._slots.one():
            connection = self._begin(tenant_id)
            try:
                yield connection
            finally:
                self._give_back(connection)

    def _begin(self, tenant_id: UUID | None) -> _Pooled:
        """Return a connection in a new transaction; one that got lost unnoticed is replaced here.

        This is the last moment for it: nothing has been written yet.
        """
        opening = _OPEN.format(
            statement=STATEMENT_TIMEOUT,
            lock=LOCK_TIMEOUT,
            idle=IDLE_TIMEOUT,
            tenant=str(tenant_id or ""),
        )
        connection = self._take()
        try:
            connection.execute(opening, prepare=False)
        except psycopg.OperationalError:
            self._replaced += 1
            connection.close()
            connection = self._open()
            connection.execute(opening, prepare=False)
        return connection

    def _take(self) -> _Pooled:
        with suppress(IndexError):  # raised by the empty pool, whoever emptied it
            while True:
                idle = self._idle.pop()
                if idle.is_fit():
                    return idle.connection
                self._replaced += 1
                idle.connection.close()
        return self._open()

    def _open(self) -> _Pooled:
        connection = _Pooled.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=self._prepare_threshold,
            connect_timeout=5,
            tcp_user_timeout=10_000,
            application_name="skald",
        )
        connection.opened_at = time.time()
        return connection

    def _give_back(self, connection: _Pooled) -> None:
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            self._replaced += 1
            connection.close()
        else:
            self._idle.append(_Idle(connection, time.time()))


@cache
def database() -> Database:
    """Return the database of this function's role."""
    return Database(
        settings().postgres_dsn,
        settings().postgres_pool_size,
        behind_pooler=settings().postgres_pooler,
    )


@cache
def lookout() -> Database:
    """Return the database of the role that sees ids and states across tenants, nothing more."""
    return Database(settings().lookout_dsn, size=1, behind_pooler=settings().postgres_pooler)
