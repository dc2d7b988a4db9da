"""Transactions bound to a tenant, in as few round trips as possible."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, LiteralString
from uuid import UUID

from psycopg import OperationalError
from psycopg.errors import InFailedSqlTransaction

from skald.postgres.interface import Connection, Parameters, Reply, RowMaker, Rows, Statement

_BEGIN, _COMMIT, _ROLLBACK = Statement(b"begin"), Statement(b"commit"), Statement(b"rollback")


class Transaction:
    """An open transaction. Code inside never commits; the block that opened it does.

    It begins with its first statement, in the same round trip. Until then nothing was written, so
    a connection found lost is replaced, by `replace`, and the caller does not notice.
    """

    def __init__(
        self,
        connection: Connection,
        tenant_id: UUID | None,
        settings: Statement,
        replace: Callable[[], Connection],
    ) -> None:
        self.connection = connection
        self._tenant_id = tenant_id
        self._settings = settings
        self._waiting: list[Statement] = []
        self._replace = replace
        self._is_open = False
        self._after_commit: dict[str, Callable[[], None]] = {}

    @property
    def tenant_id(self) -> UUID:
        """The tenant this transaction acts for; raises `LookupError` where there is none."""
        if self._tenant_id is None:
            raise LookupError("this transaction belongs to no tenant")
        return self._tenant_id

    def execute(self, query: LiteralString, parameters: Parameters = ()) -> Rows[dict[str, Any]]:
        """Run a statement and return its rows by their columns' names."""
        return self._rows(dict, query, parameters)

    def changed(self, query: LiteralString, parameters: Parameters = ()) -> bool:
        """Run a statement that changes at most one row; returns whether it changed one."""
        return self.execute(query, parameters).rowcount == 1

    def later(self, query: LiteralString, parameters: Parameters = ()) -> None:
        """Run a statement without waiting for its outcome, no later than the commit.

        It costs no round trip: it travels ahead of the next statement, or with the commit, and
        raises its errors there. Every later statement sees its effect.
        """
        self._waiting.append(self.connection.statement(query, parameters))

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
        result = self._run(self.connection.statement(query, parameters))
        return self.connection.rows(result, lambda _: itemgetter(0)).fetchone()

    def call(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """Call a function whose `$1` is the tenant, as `Database.call` does, but in here."""
        statement = self.connection.numbered(query, (self.tenant_id, *values))
        return self.connection.rows(self._run(statement), lambda _: tuple).fetchall()

    def after_commit(self, name: str, action: Callable[[], None]) -> None:
        """Do this after the commit; a second action of the same name replaces the first."""
        self._after_commit[name] = action

    def committed(self) -> None:
        for action in self._after_commit.values():
            action()

    def commit(self) -> None:
        """Commit; only the block that opened the transaction calls this."""
        if self._is_open or self._waiting:
            self._end()

    def _rows[Row](
        self,
        kind: type[Row],
        query: LiteralString,
        parameters: Parameters,
    ) -> Rows[Row]:
        def row_maker(names: list[str]) -> RowMaker[Row]:
            return lambda values: kind(**dict(zip(names, values, strict=True)))

        result = self._run(self.connection.statement(query, parameters))
        return self.connection.rows(result, row_maker)

    def _run(self, statement: Statement) -> Reply:
        return self._send(statement)[-1]

    def _send(self, *statement: Statement) -> list[Reply]:
        """Send what waits and the statement if there is one, all in one round trip."""
        try:
            return self._travel(*statement)
        except OperationalError:
            if self._is_open or not self.connection.closed:
                raise
            self.connection = self._replace()
            return self._travel(*statement)

    def _end(self, *statement: Statement) -> list[Reply]:
        """Send what waits, the statement if there is one, and the commit, all in one round trip.

        A connection lost on the way is not replaced: the transaction may have been committed.
        """
        if self._is_open and self.connection.has_failed:
            raise InFailedSqlTransaction("an error was passed over: nothing can be committed")
        return self._travel(*statement, *self._closing())

    def _travel(self, *statements: Statement) -> list[Reply]:
        opening = () if self._is_open else self._opening()
        try:
            return self.connection.exchange([*opening, *self._waiting, *statements])
        finally:
            if not self.connection.closed:
                self._waiting.clear()
                self._is_open = not self.connection.is_idle

    def _opening(self) -> tuple[Statement, ...]:
        return *self._undone(), _BEGIN, self._settings

    def _undone(self) -> tuple[Statement, ...]:
        return () if self.connection.is_idle else (_ROLLBACK,)

    def _closing(self) -> tuple[Statement, ...]:
        return (_COMMIT,)
