"""Benchmark of the relay against a job queue on PostgreSQL, in batches of a hundred."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import (  # type: ignore[import-not-found]
    EntrypointExecutionParameter,
    Queries,
)

from benchmarks.harness import Benchmark, per_second
from benchmarks.servers import Servers
from skald.messaging import Envelope, outbox
from skald.messaging.queues import Failure
from skald.messaging.relay import BATCH_SIZE, drain
from skald.postgres import Database
from skald.telemetry import new_trace_id

EVENTS = 3_000
_ENTRYPOINT = "event"


class NullSink:
    """Accepts every event and keeps none."""

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:  # noqa: ARG002
        return {}


class Relay(Benchmark):
    name = "relay"
    target = 1.0
    compares = "lease, send to a null sink, finish / pgqueuer dequeue, acknowledge; batches of 100"
    limited_by = "two updates of each row, each a new version of it; a batch is one round trip"

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        self._servers = servers
        self._tenant_id, _ = servers.new_tenant()
        self._app, self._relay = Database(servers.app_dsn), Database(servers.relay_dsn)
        resources.callback(self._app.close)
        resources.callback(self._relay.close)
        self._loop = resources.enter_context(asyncio.Runner())
        self._peer = self._loop.run(asyncpg.connect(servers.database_of("pgqueuer")))
        resources.callback(lambda: self._loop.run(self._peer.close()))
        self._queries = Queries(AsyncpgDriver(self._peer))
        self._loop.run(self._queries.install())

    def ours(self) -> float:
        self._servers.administer("truncate skald.outbox")
        with self._app.transaction(self._tenant_id) as transaction:
            for _ in range(EVENTS):
                outbox.publish(transaction, _event(self._tenant_id))
        self._servers.administer("vacuum analyze skald.outbox")
        return per_second(EVENTS, self._drain)

    def peer(self) -> float:
        self._loop.run(self._enqueue())
        return per_second(EVENTS, lambda: self._loop.run(self._consume()))

    def _drain(self) -> None:
        if drain(self._relay, NullSink()).sent != EVENTS:
            raise AssertionError("the relay did not send every event")

    async def _enqueue(self) -> None:
        await self._queries.clear_queue()
        await self._queries.clear_queue_log()
        bodies = [_event(self._tenant_id).model_dump_json().encode() for _ in range(EVENTS)]
        await self._queries.enqueue([_ENTRYPOINT] * EVENTS, bodies, [0] * EVENTS)
        await self._peer.execute("vacuum analyze pgqueuer")

    async def _consume(self) -> None:
        manager, done = uuid4(), 0
        entrypoints = {_ENTRYPOINT: EntrypointExecutionParameter(concurrency_limit=0)}
        while jobs := await self._queries.dequeue(
            BATCH_SIZE, entrypoints, manager, None, timedelta(seconds=30)
        ):
            await self._queries.log_jobs([(job, "successful", None) for job in jobs])
            done += len(jobs)
        if done != EVENTS:
            raise AssertionError("pgqueuer did not finish every job")


def _event(tenant_id: UUID) -> Envelope:
    return Envelope(
        event_id=uuid4(),
        event_type="batch.uploaded",
        tenant_id=tenant_id,
        target_id=str(uuid4()),
        target_type="batch",
        payload={"batch_id": str(uuid4()), "timeout_seconds": 1_800},
        trace_id=new_trace_id(),
    )
