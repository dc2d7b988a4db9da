"""Benchmark of a durable saga of three steps against a workflow engine on PostgreSQL."""

from contextlib import ExitStack
from typing import Any, cast
from uuid import uuid4

from dbos import DBOS, DBOSConfig  # type: ignore[import-not-found]
from pydantic import BaseModel

from benchmarks.harness import Benchmark, per_second
from benchmarks.servers import Servers
from skald.postgres import Database
from skald.saga import SagaStatus, coordinator
from skald.saga.coordinator import Step

SAGAS = 60
STEPS = ("reserve", "charge", "ship")
_RESULT = {"reference": "x" * 40}


class Order(BaseModel):
    """The input of both sides."""

    number: int


ORDER_SAGA = coordinator.Saga(
    "order", Order, [Step(name, effect=lambda _transaction, _order: _RESULT) for name in STEPS]
)


class Saga(Benchmark):
    name = "durable 3-step saga"
    target = 4.0
    compares = "the coordinator / a DBOS workflow: input, three results and the end are recorded"
    limited_by = "three commits, each after its begin, its settings and the row of its step"

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        self._tenant_id, _ = servers.new_tenant()
        self._database = Database(servers.app_dsn)
        resources.callback(self._database.close)
        config = {
            "name": "benchmark",
            "system_database_url": servers.database_of("dbos"),
            "console_log_level": "ERROR",
        }
        DBOS(config=cast(DBOSConfig, config))
        DBOS.launch()
        resources.callback(DBOS.destroy)

    def ours(self) -> float:
        return per_second(SAGAS, self._run_sagas)

    def peer(self) -> float:
        return per_second(SAGAS, _run_workflows)

    def _run_sagas(self) -> None:
        for number in range(SAGAS):
            saga_id, order = uuid4().hex, Order(number=number)
            status = coordinator.run(self._database, ORDER_SAGA, self._tenant_id, saga_id, order)
            if status is not SagaStatus.COMPLETED:
                raise AssertionError(f"a saga ended as {status}")


def _run_workflows() -> None:
    for number in range(SAGAS):
        if len(_workflow({"number": number})) != len(STEPS):
            raise AssertionError("a workflow did not take every step")


@DBOS.step()  # type: ignore[untyped-decorator]
def _step(_name: str) -> dict[str, Any]:
    return _RESULT


@DBOS.workflow()  # type: ignore[untyped-decorator]
def _workflow(_order: dict[str, Any]) -> list[dict[str, Any]]:
    return [_step(name) for name in STEPS]
