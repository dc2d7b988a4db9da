"""Transactions bound to a tenant, in as few round trips as their statements allow."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, LiteralString, override
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor
from psycopg.errors import InFailedSqlTransaction
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, class_row, dict_row

from skald.state.calls import Calls

type Parameters = Sequence[Any] | Mapping[str, Any]
type Statement[T] = Callable[[Connection[Any]], T]
"""Runs on the connection it is given; where that was lost unused, once more on another."""


class PooledConnection(Connection[Any]):
    """A connection that knows its age, and the calls that it has made."""

    opened_at: float

    @cached_property
    def calls(self) -> Calls:
        return Calls(self)


class Transaction:
    """An open transaction; what runs inside never commits, the block that opened it does.

    It begins with its first statement, in the same round trip (libpq's pipeline mode): until then
    nothing was written, so a connection found lost is replaced, by `replace`, and nobody notices.
    """

    def __init__(
        self,
        connection: PooledConnection,
        tenant_id: UUID | None,
        begin: Statement[object],
        replace: Callable[[], PooledConnection],
    ) -> None:
        self.connection = connection
        self._tenant_id = tenant_id
        self._waiting: list[Statement[object]] = [begin]
        self._replace = replace
        self._is_open = False
        self._after_commit: dict[str, Callable[[], None]] = {}

    @property
    def tenant_id(self) -> UUID:
        """The tenant this transaction acts for; raises `LookupError` where there is none."""
        if self._tenant_id is None:
            raise LookupError("this transaction belongs to no tenant")
        return self._tenant_id

    def execute(
        self, query: LiteralString, parameters: Parameters = (), *, binary: bool = False
    ) -> Cursor[DictRow]:
        """Run a statement; `binary` spares many bytes their way through hexadecimal digits."""
        return self._run(
            lambda connection: connection.cursor(binary=binary, row_factory=dict_row).execute(
                query, parameters
            )
        )

    def execute_many(self, query: LiteralString, rows: Sequence[Parameters]) -> None:
        if rows:
            self._run(lambda connection: connection.cursor().executemany(query, rows))

    def later(self, query: LiteralString, parameters: Parameters = ()) -> None:
        """Run a statement whose outcome nobody waits for, no later than the commit.

        It costs no round trip: it travels ahead of the next statement or with the commit, which
        then raises what it raises. Its effect is seen by every statement that is given after it.
        """
        self._waiting.append(lambda connection: connection.execute(query, parameters))

    def one[Row](
        self, kind: type[Row], query: LiteralString, parameters: Parameters = ()
    ) -> Row | None:
        """Return the first row as a `kind` built from its columns, or None."""
        return self._rows(kind, query, parameters).fetchone()

    def all[Row](
        self, kind: type[Row], query: LiteralString, parameters: Parameters = ()
    ) -> list[Row]:
        """Return every row as a `kind` built from its columns."""
        return self._rows(kind, query, parameters).fetchall()

    def value(self, query: LiteralString, parameters: Parameters = ()) -> Any:
        """Return the first column of the first row, or None."""
        row = self._run(lambda connection: connection.execute(query, parameters)).fetchone()
        return row[0] if row else None

    def after_commit(self, name: str, action: Callable[[], None]) -> None:
        """Do this once the transaction is safe; registering a name twice does it once."""
        self._after_commit[name] = action

    def committed(self) -> None:
        for action in self._after_commit.values():
            action()

    def commit(self) -> None:
        """Commit what the block did; for the block's opener alone."""
        if self._is_open or len(self._waiting) > 1:
            self._end(_nothing)

    def _rows[Row](
        self, kind: type[Row], query: LiteralString, parameters: Parameters
    ) -> Cursor[Row]:
        return self._run(
            lambda connection: connection.cursor(row_factory=class_row(kind)).execute(
                query, parameters
            )
        )

    def _run[T](self, statement: Statement[T]) -> T:
        """Send what waits and the statement, all in one round trip."""
        try:
            return self._travel(statement)
        except psycopg.OperationalError:
            if self._is_open or not self.connection.closed:
                raise
            self.connection = self._replace()
            return self._travel(statement)

    def _end[T](self, statement: Statement[T]) -> T:
        """Send what waits, the statement and the commit, all in one round trip.

        A connection lost on the way is not replaced: the transaction may have been committed.
        """
        if self.connection.info.transaction_status is TransactionStatus.INERROR:
            raise InFailedSqlTransaction("an error was passed over: nothing can be committed")

        def last(connection: Connection[Any]) -> T:
            result = statement(connection)
            connection.execute("commit")
            return result

        return self._travel(last)

    def _travel[T](self, statement: Statement[T]) -> T:
        if not self._waiting:
            return statement(self.connection)
        try:
            with self.connection.pipeline():
                for earlier in self._waiting:
                    earlier(self.connection)
                return statement(self.connection)
        finally:
            if not self.connection.closed:
                self._waiting.clear()
                self._is_open = True


class SingleStatement(Transaction):
    """A transaction of one statement, which begins, runs and commits in one round trip."""

    @override
    def _run[T](self, statement: Statement[T]) -> T:
        if self._is_open:
            raise RuntimeError("this transaction has ended with its only statement")
        return self._end(statement)

    @override
    def commit(self) -> None:
        """Commit what waits, unless the statement has been there and done it."""
        if not self._is_open:
            super().commit()


def _nothing(_: Connection[Any]) -> None:
    """Take the place of a statement where there is none."""
