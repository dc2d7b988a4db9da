"""Finds sagas whose execution or process has died, and compensates them (G-07).

`States.ALL` catches neither `States.Runtime` nor `States.DataLimitExceeded`, and nothing catches an
abort: only the saga log shows that such a saga has not ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

from skald.postgres import Database, Transaction
from skald.saga.log import SagaLog, SagaStatus
from skald.telemetry import logger, metrics

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

QUIET = timedelta(minutes=1)
"""The reconciler ignores a saga whose row changed within this time."""
MAX_RECOVERIES = 5
LIMIT = 100


class Silent(BaseModel):
    """A saga that is under way and whose row has not changed for a while."""

    tenant_id: UUID
    saga_id: str
    kind: str
    execution: str | None


@dataclass(frozen=True)
class Death:
    """The input of a recovery: the saga, the command in its log, and how its execution ended."""

    tenant_id: UUID
    saga_id: str
    command: dict[str, Any]
    error: str
    cause: str


type Recovery = Callable[[Death], None]
"""Compensates or continues a dead saga. It must be idempotent: it may be called again."""


class Reconciler:
    """Decides from their executions which silent sagas are dead.

    A saga without an execution ran inside a process. If it is silent, that process has died.
    """

    def __init__(
        self, database: Database, machines: SFNClient, recoveries: Mapping[str, Recovery]
    ) -> None:
        self._database = database
        self._machines = machines
        self._recoveries = recoveries

    def reconcile(self, saga: Silent) -> SagaStatus | None:
        """Recover a dead saga and return its state after that; None if the saga is alive."""
        end = self._end(saga)
        if end is None:
            return None
        death = self._claim(saga, *end)
        if death is None:
            return None
        logger.error("saga died", extra={"saga_id": saga.saga_id, "error": death.error})
        metrics.count("sagas_died_count", saga_type=saga.kind)
        try:
            self._recoveries[saga.kind](death)
        except Exception as error:
            logger.exception("saga could not be recovered", extra={"saga_id": saga.saga_id})
            self._park(saga, error)
        return self._status(saga)

    def _end(self, saga: Silent) -> tuple[str, str] | None:
        """Return error and cause of an execution that ended, None while it runs."""
        if saga.execution is None:
            return "ProcessDied", "its process has made no progress"
        try:
            found = self._machines.describe_execution(executionArn=saga.execution)
        except self._machines.exceptions.ExecutionDoesNotExist:
            return "ExecutionGone", "its execution does not exist any more"
        if found["status"] in ("RUNNING", "PENDING_REDRIVE"):
            self._touch(saga)
            return None
        return found.get("error", found["status"]), found.get("cause", "")

    def _touch(self, saga: Silent) -> None:
        """Move a living saga to the end of the list, so that dead sagas come before it."""
        with self._database.transaction(saga.tenant_id) as transaction:
            SagaLog(transaction, saga.saga_id).touch()

    def _claim(self, saga: Silent, error: str, cause: str) -> Death | None:
        """Count a recovery, unless the saga has ended or another reconciler has just begun."""
        with self._database.transaction(saga.tenant_id) as transaction:
            log = SagaLog(transaction, saga.saga_id)
            if not log.begin_recovery(QUIET):
                return None
            state = log.state()
        if state is None:
            return None
        return Death(saga.tenant_id, saga.saga_id, state.input, error, cause)

    def _park(self, saga: Silent, error: Exception) -> None:
        """Leave a saga to a person after `MAX_RECOVERIES` failed recoveries."""
        text = f"{type(error).__name__}: {error}"
        with self._database.transaction(saga.tenant_id) as transaction:
            log = SagaLog(transaction, saga.saga_id)
            state = log.state()
            if state is not None and state.recoveries >= MAX_RECOVERIES:
                log.move(
                    SagaStatus.MANUAL_INTERVENTION,
                    SagaStatus.RUNNING,
                    SagaStatus.COMPENSATING,
                    error=text,
                )
                metrics.count("sagas_parked_count", saga_type=saga.kind)

    def _status(self, saga: Silent) -> SagaStatus | None:
        with self._database.transaction(saga.tenant_id) as transaction:
            state = SagaLog(transaction, saga.saga_id).state()
        return state.status if state else None


def find_silent(lookout: Transaction, quiet: timedelta = QUIET) -> list[Silent]:
    """Find silent sagas of all tenants, those whose rows changed longest ago first.

    `lookout` is a transaction of the relay's role.
    """
    return lookout.all(
        Silent,
        """
        select tenant_id, saga_id, kind, execution from skald.saga_transactions
        where status in ('running', 'compensating') and updated_at < clock_timestamp() - %s
        order by updated_at
        limit %s
        """,
        (quiet, LIMIT),
    )
