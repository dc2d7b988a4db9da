"""A pool of connections that survives a frozen environment, and opens transactions."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import psycopg

from skald.config import settings
from skald.postgres.conditional import ConditionalTransaction
from skald.postgres.interface import Connection
from skald.postgres.pipeline import PipelinedConnection
from skald.postgres.single import SingleStatement
from skald.postgres.slots import PoolExhausted, PoolStatistics, Slots
from skald.postgres.transaction import Transaction

WAIT_SECONDS = 5.0
PROBE_AFTER_SECONDS = 5.0
IDLE_SECONDS = 300.0
PREPARE_AFTER = 2
"""Times a statement runs on a connection before PostgreSQL keeps its plan."""
LIFETIME_SECONDS = 3600.0
STATEMENT_TIMEOUT = "30s"
LOCK_TIMEOUT = "10s"
IDLE_TIMEOUT = "60s"

# Local to the transaction, so nothing leaks through a pooler.
_SETTINGS: LiteralString = """
    select set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),
           set_config('idle_in_transaction_session_timeout', %s, true),
           set_config('app.current_tenant', %s, true)
"""


class _Idle(NamedTuple):
    connection: Connection
    since: float

    def is_fit(self, *, to_be_quiet: bool) -> bool:
        """Return whether it can be used again; probes it if that is not certain.

        A caller that can cope with a connection the server has just closed passes False.
        """
        # Wall-clock time on purpose: the monotonic clock stands still in a frozen environment.
        now = time.time()
        if now - self.connection.opened_at > LIFETIME_SECONDS or now - self.since > IDLE_SECONDS:
            return False
        is_fresh = now - self.since < PROBE_AFTER_SECONDS
        is_certain = is_fresh and (not to_be_quiet or self.connection.is_quiet())
        return is_certain or self.connection.is_alive()


class Database:
    """A few connections of one role, opened when needed, probed after they were idle.

    No background thread keeps them: a frozen environment would stop it. A connection that sat
    idle longer than `PROBE_AFTER_SECONDS`, or received something in that time, answers a probe
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

        `tenant_id` is whose rows are visible, None where no tenant table may be touched.
        Raises `PoolExhausted` when every connection stays busy (G-01).
        """
        with self._opened(Transaction, tenant_id) as transaction:
            yield transaction

    @contextmanager
    def conditional(self, tenant_id: UUID | None) -> Iterator[ConditionalTransaction]:
        """Open a transaction that may begin under a condition, else as `transaction` does."""
        with self._opened(ConditionalTransaction, tenant_id) as transaction:
            yield transaction

    @contextmanager
    def single_statement(self, tenant_id: UUID | None) -> Iterator[Transaction]:
        """Open a transaction of one statement, which is committed when that returns.

        All of it takes one round trip. Further statements travel along by `later`, given before.
        Nothing is repeated when the connection is lost: the statement may have been committed.
        """
        with self._opened(SingleStatement, tenant_id) as transaction:
            yield transaction

    def call(self, tenant_id: UUID, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """Call a function that binds the tenant, its `$1`, itself (`skald.act_for`).

        The call is one message and one transaction. If the connection is lost, it is repeated on
        another one, so the function must be idempotent. Only the lock timeout applies.
        """
        with self._slots:
            connection = self._take(to_be_quiet=False)  # a probe costs more than a repeated call
            try:
                try:
                    return connection.call(query, (tenant_id, *values))
                except psycopg.OperationalError:
                    if not connection.closed:
                        raise
                    connection = self._replacement()
                    return connection.call(query, (tenant_id, *values))
            finally:
                self._give_back(connection)

    def statistics(self) -> PoolStatistics:
        """Return the state of the pool and its totals."""
        return self._slots.statistics(idle=len(self._idle), replaced=self._replaced)

    def is_healthy(self) -> bool:
        """Return whether PostgreSQL answers a transaction."""
        try:
            with self.single_statement(None) as transaction:
                return transaction.value("select true") is True
        except (psycopg.OperationalError, PoolExhausted):
            return False

    def close(self, wait_seconds: float = 30.0) -> None:
        """Wait for open transactions to end, then close the idle connections."""
        self._slots.wait_until_empty(wait_seconds)
        while self._idle:
            self._idle.pop().connection.close()

    @contextmanager
    def _opened[T: Transaction](self, kind: type[T], tenant_id: UUID | None) -> Iterator[T]:
        with self._slots:
            connection = self._take()
            timeouts = (STATEMENT_TIMEOUT, LOCK_TIMEOUT, IDLE_TIMEOUT)
            bound = connection.statement(_SETTINGS, (*timeouts, str(tenant_id or "")))
            transaction = kind(connection, tenant_id, bound, self._replacement)
            try:
                yield transaction
                transaction.commit()
            except BaseException:
                with suppress(psycopg.Error):  # a lost connection has rolled back already
                    transaction.connection.rollback()
                raise
            finally:
                self._give_back(transaction.connection)
        transaction.committed()

    def _replacement(self) -> Connection:
        self._replaced += 1
        return self._open()

    def _take(self, *, to_be_quiet: bool = True) -> Connection:
        with suppress(IndexError):  # raised by an empty pool; another thread may have emptied it
            while True:
                idle = self._idle.pop()
                if idle.is_fit(to_be_quiet=to_be_quiet):
                    return idle.connection
                self._replaced += 1
                idle.connection.close()
        return self._open()

    def _open(self) -> Connection:
        return PipelinedConnection.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=self._prepare_threshold,
            connect_timeout=5,
            tcp_user_timeout=10_000,
            application_name="skald",
        )

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_idle:
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
