"""Benchmark of the outbox: the cost of its row in a transaction that opens a batch."""

from collections.abc import Callable
from contextlib import ExitStack
from uuid import UUID, uuid4

from batches import repository
from batches.domain import NewBatch, batch_event
from benchmarks.harness import Benchmark, per_second
from benchmarks.servers import Servers
from skald.messaging import outbox
from skald.postgres import Database, Transaction
from skald.telemetry import new_trace_id

type _Addition = Callable[[Transaction, UUID, str], object]
TRANSACTIONS = 500


class OutboxTransaction(Benchmark):
    name = "transaction with an outbox row"
    target = 0.7
    compares = "opening a batch (row, trigger, progress row) with and without its event"
    limited_by = "one insert into five indexes under row-level security, and the making of an event"

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        self._tenant_id, _ = servers.new_tenant()
        self._database = Database(servers.app_dsn)
        resources.callback(self._database.close)

    def ours(self) -> float:
        return self._rate(self._publish)

    def peer(self) -> float:
        return self._rate(lambda _transaction, _batch_id, _trace_id: None)

    def _rate(self, also: _Addition) -> float:
        def work() -> None:
            for _ in range(TRANSACTIONS):
                self._open_batch(also)

        return per_second(TRANSACTIONS, work)

    def _open_batch(self, also: _Addition) -> None:
        batch_id, trace_id = uuid4(), new_trace_id()
        with self._database.transaction(self._tenant_id) as transaction:
            new = NewBatch(name="benchmark")
            repository.create_batch(transaction, batch_id, new, trace_id)
            also(transaction, batch_id, trace_id)

    def _publish(self, transaction: Transaction, batch_id: UUID, trace_id: str) -> None:
        event = batch_event("batch.uploaded", self._tenant_id, batch_id, trace_id)
        outbox.publish(transaction, event)
