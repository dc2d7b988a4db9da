"""Many statements to PostgreSQL in one message, and their answers in one.

psycopg's own pipeline sends each statement by itself, so the server wakes up for each. Here they
are sent together. psycopg still connects, adapts values, and makes rows and errors.
"""

import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, zip_longest
from typing import Any

from psycopg import Connection, OperationalError
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from skald.postgres import probe
from skald.postgres.calls import Calls
from skald.postgres.interface import Parameters, RowMaker, Rows, Statement
from skald.postgres.statement import bind

PLANS = 200
"""Statements a connection counts. The code has fewer; lists with filters would make more."""


@dataclass
class _Plan:
    """A statement that is prepared, or will be after enough uses."""

    name: bytes
    uses: int = 0
    is_prepared: bool = False


class PipelinedConnection(Connection[Any]):
    """The `Connection` of this package: many statements in one round trip."""

    def __init__(self, pgconn: PGconn, *arguments: Any) -> None:
        super().__init__(pgconn, *arguments)
        self.opened_at = time.time()
        self._transformer = Transformer(self)
        self._calls = Calls(self)
        self._plans: dict[tuple[bytes, tuple[int, ...]], _Plan] = {}
        self._numbers = count(1)
        self.succeeded = 0

    @property
    def is_idle(self) -> bool:
        return bool(self.pgconn.transaction_status == TransactionStatus.IDLE)

    @property
    def has_failed(self) -> bool:
        return bool(self.pgconn.transaction_status == TransactionStatus.INERROR)

    def statement(self, query: str, parameters: Parameters = ()) -> Statement:
        return bind(self._transformer, query, parameters)

    def numbered(self, query: str, values: Sequence[Any]) -> Statement:
        return self._calls.statement(query, values)

    def call(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._calls.rows(query, values)

    def is_quiet(self) -> bool:
        return probe.is_quiet(self)

    def is_alive(self) -> bool:
        return probe.answers(self)

    def exchange(self, statements: Iterable[Statement]) -> list[PGresult]:
        self.succeeded = 0
        self.pgconn.enter_pipeline_mode()
        awaited = [plan for statement in statements for plan in self._send(statement)]
        self.pgconn.pipeline_sync()
        self._flush()
        received = self._receive()
        self.pgconn.exit_pipeline_mode()
        for plan, result in zip(awaited, received, strict=False):
            if plan is not None:
                plan.is_prepared = result.status == ExecStatus.COMMAND_OK
        # One more may be received: the implicit commit may fail too.
        for plan, result in zip_longest(awaited, received):
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
            self.succeeded += plan is None
        return [result for plan, result in zip(awaited, received, strict=True) if plan is None]

    def rows[Row](
        self, result: PGresult, row_maker: Callable[[list[str]], RowMaker[Row]]
    ) -> Rows[Row]:
        if result.status == ExecStatus.COMMAND_OK:
            return Rows((), result.command_tuples or 0)
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        self._transformer.set_pgresult(result)
        rows = self._transformer.load_rows(0, result.ntuples, row_maker(names))
        return Rows(rows, result.ntuples)

    def _send(self, statement: Statement) -> list[_Plan | None]:
        """Send a statement; returns an item for each answer to come: its new plan, or None."""
        query, types, values, formats = statement
        plan = self._plan(query, types)
        if plan is None:
            self.pgconn.send_query_params(query, values, types, formats)
            return [None]
        is_new = not plan.is_prepared
        if is_new:
            self.pgconn.send_prepare(plan.name, query, types)
            plan.is_prepared = True
        self.pgconn.send_query_prepared(plan.name, values, formats)
        return [plan, None] if is_new else [None]

    def _plan(self, query: bytes, types: tuple[int, ...]) -> _Plan | None:
        """Return the plan of a statement, None before it was used often enough."""
        if self.prepare_threshold is None:
            return None
        plan = self._plans.get((query, types))
        if plan is None:
            if len(self._plans) >= PLANS:
                self._plans = {key: held for key, held in self._plans.items() if held.is_prepared}
            if len(self._plans) >= PLANS:
                return None
            plan = self._plans[query, types] = _Plan(b"statement_%d" % next(self._numbers))
        plan.uses += 1
        return plan if plan.uses > self.prepare_threshold else None

    def _flush(self) -> None:
        # A server that cannot send its answers stops reading: send and receive at the same time.
        while self.pgconn.flush():
            if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                self.pgconn.consume_input()

    def _receive(self) -> list[PGresult]:
        """Return all results, errors included, up to the end of the message."""
        received: list[PGresult] = []
        while True:
            while self.pgconn.is_busy():
                self._wait(select.POLLIN)
                self.pgconn.consume_input()
            result = self.pgconn.get_result()
            if self.pgconn.status == ConnStatus.BAD:
                raise OperationalError(self.pgconn.get_error_message())
            if result is None:
                continue
            if result.status == ExecStatus.PIPELINE_SYNC:
                return received
            received.append(result)

    def _wait(self, events: int) -> int:
        poll = select.poll()
        poll.register(self.pgconn.socket, events)
        ((_, ready),) = poll.poll()
        return ready
