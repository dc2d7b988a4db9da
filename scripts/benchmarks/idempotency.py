"""Benchmarks of idempotency: the cost of a key in the first call, and the speed of a replay."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import redis
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.idempotency.persistence.cache import CachePersistenceLayer

from batches import repository
from batches.domain import NewBatch, batch_event
from benchmarks.harness import Benchmark, per_second
from benchmarks.servers import Servers
from skald.idempotency import Operation, Outcome
from skald.messaging import outbox
from skald.postgres import Database, Transaction
from skald.telemetry import new_trace_id

CALLS = 300
_PAYLOAD = {"path": "/batches", "query": None, "body": {"name": "benchmark"}}
_ANSWER = {"status": 201, "headers": {"Content-Type": "application/json"}, "body": "x" * 400}


class FirstCall(Benchmark):
    name = "idempotent first call"
    target = 0.6
    compares = "the transaction of POST /batches (rows and event) with a fresh key and without"
    limited_by = (
        "two statements more, which travel with those of the work, and Powertools' own work"
    )

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        self._tenant_id, _ = servers.new_tenant()
        self._database = Database(servers.app_dsn)
        resources.callback(self._database.close)
        self._operation = Operation("POST /batches")

    def ours(self) -> float:
        return per_second(CALLS, lambda: [self._with_key() for _ in range(CALLS)])

    def peer(self) -> float:
        return per_second(CALLS, lambda: [self._without_key() for _ in range(CALLS)])

    def _with_key(self) -> Outcome:
        with self._database.conditional(self._tenant_id) as transaction:
            return self._operation.run_rows_first(
                transaction, lambda: self._open(transaction), key=uuid4().hex, payload=_PAYLOAD
            )

    def _without_key(self) -> dict[str, Any]:
        with self._database.transaction(self._tenant_id) as transaction:
            return self._open(transaction)

    def _open(self, transaction: Transaction) -> dict[str, Any]:
        batch_id, trace_id = uuid4(), new_trace_id()
        repository.create_batch(transaction, batch_id, NewBatch(name="benchmark"), trace_id)
        event = batch_event("batch.uploaded", self._tenant_id, batch_id, trace_id)
        outbox.publish(transaction, event)
        return _ANSWER


class Replay(Benchmark):
    name = "idempotent replay"
    target = 0.5
    compares = "a stored answer from PostgreSQL in its transaction / from Valkey by Powertools"
    limited_by = (
        "two round trips, one of them an error; Powertools' layer needs one SET and one GET"
    )

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        self._tenant_id, _ = servers.new_tenant()
        self._database = Database(servers.app_dsn)
        resources.callback(self._database.close)
        self._operation = Operation("replayed")
        client = redis.Redis.from_url(servers.redis_dsn, decode_responses=True)
        resources.callback(client.close)
        self._function = _idempotent(client)
        self._ask_us()
        self._ask_peer()

    def ours(self) -> float:
        return per_second(CALLS, lambda: [self._ask_us(_not_again) for _ in range(CALLS)])

    def peer(self) -> float:
        return per_second(CALLS, lambda: [self._ask_peer(_not_again) for _ in range(CALLS)])

    def _ask_us(self, work: Callable[[], dict[str, Any]] = lambda: _ANSWER) -> dict[str, Any]:
        def begin() -> dict[str, Any]:
            transaction.execute("select 1")  # a repeated request stops at the first statement
            return work()

        with self._database.conditional(self._tenant_id) as transaction:
            answer = self._operation.run_rows_first(
                transaction, begin, key="again", payload=_PAYLOAD
            )
        return answer.result

    def _ask_peer(self, work: Callable[[], dict[str, Any]] = lambda: _ANSWER) -> dict[str, Any]:
        answer: dict[str, Any] = self._function(
            work=work, request={"key": "again", "payload": _PAYLOAD}
        )
        return answer


class _Context:
    """The part of a Lambda context that Powertools uses."""

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def _idempotent(client: Any) -> Callable[..., Any]:
    # No payload validation: this layer drops the payload's hash when it stores the answer.
    config = IdempotencyConfig(event_key_jmespath="key", hash_function="sha256")
    config.register_lambda_context(_Context())  # type: ignore[arg-type]
    layer = CachePersistenceLayer(client=client)

    def function(work: Callable[[], dict[str, Any]], request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 it is there to be hashed
        return work()

    decorated: Callable[..., Any] = idempotent_function(
        function, data_keyword_argument="request", persistence_store=layer, config=config
    )
    return decorated


def _not_again() -> dict[str, Any]:
    raise AssertionError("a replay did the work again")
