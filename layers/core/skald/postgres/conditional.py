"""Transactions that stand or fall with their first statement, their condition."""

from typing import Any, LiteralString, override

from psycopg import Error
from psycopg.errors import InFailedSqlTransaction

from skald.postgres.interface import Parameters, Reply, Statement
from skald.postgres.single import SingleStatement
from skald.postgres.transaction import Transaction


class ConditionalTransaction(Transaction):
    """A transaction that may begin under a condition, which costs no round trip.

    The condition travels ahead of the first statement. If it fails, no later statement runs, even
    if the block passes over the errors, until `undo` makes the transaction new.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._awaits_condition = False
        self._refusal: Error | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was asked of this transaction yet."""
        return not (self._is_open or self._waiting or self._after_commit)

    def begin_under(self, query: LiteralString, parameters: Parameters = ()) -> None:
        """Begin with a condition; raises `RuntimeError` if the transaction has begun already."""
        if not self.is_untouched:
            raise RuntimeError("this transaction has begun without its condition")
        self.later(query, parameters)
        self._awaits_condition = True

    def refusal(self) -> Error | None:
        """Return the error of the condition, None if it holds; sends it if it still waits."""
        if self._awaits_condition:
            try:
                self._send()
            except Error:
                if self._refusal is None:
                    raise
        return self._refusal

    def undo(self) -> None:
        """Forget all that was asked of this transaction; the next statement begins it again."""
        self._waiting.clear()
        self._after_commit.clear()
        self._awaits_condition, self._refusal, self._is_open = False, None, False

    def ahead(self) -> SingleStatement:
        """Return a transaction of one statement, to ask something before this one begins."""
        return SingleStatement(self.connection, self._tenant_id, self._settings, self._replace)

    @override
    def _travel(self, *statements: Statement) -> list[Reply]:
        if self._refusal is not None:
            raise InFailedSqlTransaction("the condition of this transaction does not hold")
        ahead_of_condition = len(self._opening())
        try:
            return super()._travel(*statements)
        except Error as error:
            if self._awaits_condition and self.connection.succeeded == ahead_of_condition:
                self._refusal = error
            raise
        finally:
            if not self.connection.closed:
                self._awaits_condition = False
