"""Finds sagas whose execution or process died without a word, and has them compensated (G-07).

`States.ALL` catches neither `States.Runtime` nor `States.DataLimitExceeded`, and nothing catches an
abort: only the saga log knows that such a saga has not ended.
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
"""A saga that was heard of more recently is left alone."""
MAX_RECOVERIES = 5
LIMIT = 100


class Silent(BaseModel):
    """A saga that is under way and has been quiet for a while."""

    tenant_id: UUID
    saga_id: str
    kind: str
    execution: str | None


@dataclass(frozen=True)
class Death:
    """What a recovery is told: the saga, the command in its log, and how its execution ended."""

    tenant_id: UUID
    saga_id: str
    command: dict[str, Any]
    error: str
    cause: str


type Recovery = Callable[[Death], None]
"""Compensates or continues a dead saga; idempotent, for it may be called again."""


class Reconciler:
    """Judges silent sagas by their executions; a saga without one died with its process."""

    def __init__(
        self, database: Database, machines: SFNClient, recoveries: Mapping[str, Recovery]
    ) -> None:
        self._database = database
        self._machines = machines
        self._recoveries = recoveries

    def reconcile(self, saga: Silent) -> SagaStatus | None:
        """Recover a saga that is dead; returns its state then, None when it lives."""
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
            return "ProcessDied", "nothing was heard of its process"
        try:
            found = self._machines.describe_execution(executionArn=saga.execution)
        except self._machines.exceptions.ExecutionDoesNotExist:
            return "ExecutionGone", "its execution does not exist any more"
        if found["status"] in ("RUNNING", "PENDING_REDRIVE"):
            self._hear(saga)
            return None
        return found.get("error", found["status"]), found.get("cause", "")

    def _hear(self, saga: Silent) -> None:
        """Move a living saga to the end of the queue, so that it does not hide dead ones."""
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
        """Give a saga up to a person when its recovery has failed often enough."""
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
    """Find sagas of all tenants that nothing was heard of, the longest silent first.

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
