"""Transactions of one statement."""

from typing import override

from skald.postgres.interface import Reply, Statement
from skald.postgres.transaction import Transaction


class SingleStatement(Transaction):
    """A transaction of one statement, in one round trip: PostgreSQL takes a message for one."""

    _is_over = False

    @override
    def _run(self, statement: Statement) -> Reply:
        if self._is_over:
            raise RuntimeError("this transaction has ended with its only statement")
        self._is_over = True
        return self._end(statement)[-1]

    @override
    def _opening(self) -> tuple[Statement, ...]:
        return *self._undone(), self._settings

    @override
    def _closing(self) -> tuple[Statement, ...]:
        return ()
