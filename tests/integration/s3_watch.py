"""C-06: watches the calls to S3 while a test runs, and refuses one that a row lock waits for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from psycopg import Connection
from psycopg.rows import DictRow

from skald.aws import client
from skald.postgres import Database, Transaction
from skald.postgres.pipeline import PipelinedConnection

_EVENT = "before-call.s3"


class S3Watch:
    """Records each call to S3, and refuses a call while a transaction of its thread holds locks.

    A transaction that has locked or written a row has an id, which it locks until it ends.
    """

    def __init__(self, admin: Connection[DictRow]) -> None:
        self.calls: list[str] = []
        self.under_lock: list[str] = []
        self._admin = admin
        self._open = threading.local()

    @contextmanager
    def watching(self) -> Iterator[None]:
        opened, events = Database._opened, client("s3").meta.events

        @contextmanager
        def opened_watched(*arguments: Any) -> Iterator[Transaction]:
            with opened(*arguments) as transaction:
                self._transactions.append(transaction)
                try:
                    yield transaction
                finally:
                    self._transactions.remove(transaction)

        Database._opened = opened_watched  # type: ignore[method-assign, assignment]
        events.register(_EVENT, self._called)
        try:
            yield
        finally:
            events.unregister(_EVENT, self._called)
            Database._opened = opened  # type: ignore[method-assign]

    @property
    def _transactions(self) -> list[Transaction]:
        if not hasattr(self._open, "transactions"):
            self._open.transactions = []
        transactions: list[Transaction] = self._open.transactions
        return transactions

    def _called(self, *, model: Any, **_: object) -> None:
        self.calls.append(model.name)
        if self._transactions and self._holds_locks():
            self.under_lock.append(model.name)
            raise AssertionError(f"{model.name} is called while a row lock is held")

    def _holds_locks(self) -> bool:
        connections = [cast(PipelinedConnection, tx.connection) for tx in self._transactions]
        pids = [connection.info.backend_pid for connection in connections]
        found = self._admin.execute(
            "select from pg_locks where pid = any(%s) and locktype = 'transactionid'"
            " and mode = 'ExclusiveLock' and granted",
            (pids,),
        )
        return found.rowcount > 0
