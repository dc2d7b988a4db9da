"""The saga log: the result of each step, committed together with its effect (C-07, G-07)."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb
from pydantic import BaseModel

from skald.postgres import Transaction
from skald.telemetry import current_trace_id

type Result = dict[str, Any]


class SagaStatus(StrEnum):
    """The state of a saga. It ends as completed or compensated, or waits for a person."""

    RUNNING = "running"
    COMPLETED = "completed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    MANUAL_INTERVENTION = "manual_intervention"

    @property
    def is_under_way(self) -> bool:
        return self in (SagaStatus.RUNNING, SagaStatus.COMPENSATING)


class SagaState(BaseModel, defer_build=True):
    """The row of a saga."""

    status: SagaStatus
    kind: str
    input: dict[str, Any]
    recoveries: int
    error_message: str | None = None


class SagaLog:
    """The log of one saga inside the caller's transaction."""

    def __init__(self, transaction: Transaction, saga_id: str) -> None:
        self.transaction = transaction
        self._key = {"tenant": transaction.tenant_id, "saga": saga_id}

    # The saga as a whole ---------------------------------------------------------------------

    def begin(
        self, kind: str, steps: Sequence[str], command: BaseModel, *, execution: str | None = None
    ) -> bool:
        """Register the saga as running; returns False if it is registered already.

        `execution` is the ARN of the Step Functions execution that runs it.
        """
        return self._changed(
            """
            insert into skald.saga_transactions
                (tenant_id, saga_id, kind, steps, input, execution, trace_id)
            values (%(tenant)s, %(saga)s, %(kind)s, %(steps)s, %(input)s, %(execution)s, %(trace)s)
            on conflict do nothing
            """,
            kind=kind,
            steps=Jsonb(list(steps)),
            input=Jsonb(command.model_dump(mode="json")),
            execution=execution,
            trace=current_trace_id(),
        )

    def state(self) -> SagaState | None:
        """Return the state of the saga and lock its row until the transaction ends."""
        return self.transaction.one(
            SagaState,
            "select status, kind, input, recoveries, error_message from skald.saga_transactions"
            " where tenant_id = %(tenant)s and saga_id = %(saga)s for no key update",
            self._key,
        )

    def move(self, target: SagaStatus, *expected: SagaStatus, error: str | None = None) -> bool:
        """Change the state of the saga if it is in an expected state; returns whether it was."""
        return self._changed(
            """
            update skald.saga_transactions
            set status = %(target)s, updated_at = clock_timestamp(),
                error_message = coalesce(%(error)s, error_message),
                completed_at = case when %(ends)s then clock_timestamp() end
            where tenant_id = %(tenant)s and saga_id = %(saga)s and status = any(%(expected)s)
            """,
            target=target,
            expected=list(expected),
            error=error,
            ends=not target.is_under_way,
        )

    def touch(self) -> bool:
        """Record that the saga made progress; the reconciler then ignores it for a while."""
        return self._changed(
            "update skald.saga_transactions set updated_at = clock_timestamp()"
            " where tenant_id = %(tenant)s and saga_id = %(saga)s"
        )

    def begin_recovery(self, quiet: timedelta) -> bool:
        """Count a recovery of a saga; returns False if it has ended or has made progress since."""
        return self._changed(
            """
            update skald.saga_transactions
            set recoveries = recoveries + 1, updated_at = clock_timestamp()
            where tenant_id = %(tenant)s and saga_id = %(saga)s
              and status in ('running', 'compensating')
              and updated_at < clock_timestamp() - %(quiet)s
            """,
            quiet=quiet,
        )

    # Its steps -------------------------------------------------------------------------------

    def recorded(self, step: str) -> Result | None:
        """Return the recorded result of a step, None if the step is not done."""
        result: Result | None = self.transaction.value(
            "select result from skald.saga_steps"
            " where tenant_id = %(tenant)s and saga_id = %(saga)s and step = %(step)s"
            "   and status <> 'failed'",
            self._key | {"step": step},
        )
        return result

    def statuses(self) -> dict[str, str]:
        """Return the status of every step that has begun, by its name."""
        rows = self.transaction.execute(
            "select step, status from skald.saga_steps"
            " where tenant_id = %(tenant)s and saga_id = %(saga)s",
            self._key,
        )
        return {row["step"]: row["status"] for row in rows}

    def run_step(self, step: str, effect: Callable[[], Result]) -> Result:
        """Run the effect of a step and record its result; if it is recorded, return the record.

        Effect and record commit together. Of two attempts at once, the second waits for the first.
        It returns the first one's record, or runs the effect if the first rolled back.
        """
        claimed = self._changed(
            """
            insert into skald.saga_steps as step (tenant_id, saga_id, step)
            values (%(tenant)s, %(saga)s, %(step)s)
            on conflict (tenant_id, saga_id, step) do update
            set status = 'completed', attempts = step.attempts + 1, error = null
            where step.status = 'failed'
            """,
            step=step,
        )
        if not claimed:
            return self.recorded(step) or {}
        result = effect()
        self.transaction.later(
            "update skald.saga_steps set result = %(result)s, completed_at = clock_timestamp()"
            " where tenant_id = %(tenant)s and saga_id = %(saga)s and step = %(step)s",
            self._key | {"step": step, "result": Jsonb(result)},
        )
        return result

    def record(self, step: str, result: Result, *, ends: bool) -> bool:
        """Record a step of a running saga, in the transaction of its effect; `ends` ends the saga.

        Returns False if the saga no longer runs or the step is recorded already. Then another
        process was faster, and the caller must roll its effect back.
        """
        return self._changed(
            """
            with saga as (
                update skald.saga_transactions
                set status = %(status)s, updated_at = clock_timestamp(),
                    completed_at = case when %(ends)s then clock_timestamp() end
                where tenant_id = %(tenant)s and saga_id = %(saga)s and status = 'running'
                returning tenant_id, saga_id
            )
            insert into skald.saga_steps as step
                (tenant_id, saga_id, step, result, started_at, completed_at)
            select tenant_id, saga_id, %(step)s, %(result)s, now(), clock_timestamp() from saga
            on conflict (tenant_id, saga_id, step) do update
            set status = 'completed', attempts = step.attempts + 1, error = null,
                result = excluded.result, completed_at = excluded.completed_at
            where step.status = 'failed'
            """,
            step=step,
            result=Jsonb(result),
            status=SagaStatus.COMPLETED if ends else SagaStatus.RUNNING,
            ends=ends,
        )

    def note_failure(self, step: str, error: str) -> bool:
        """Count an attempt whose effect was rolled back. A step that is done stays done."""
        return self._changed(
            """
            insert into skald.saga_steps as step (tenant_id, saga_id, step, status, error)
            values (%(tenant)s, %(saga)s, %(step)s, 'failed', %(error)s)
            on conflict (tenant_id, saga_id, step) do update
            set attempts = step.attempts + 1, error = excluded.error
            where step.status = 'failed'
            """,
            step=step,
            error=error,
        )

    def note_compensation(self, step: str, error: str | None = None) -> bool:
        """Mark a step compensated, or as failed to compensate if there is an `error`.

        Returns False if it is compensated already.
        """
        return self._changed(
            """
            insert into skald.saga_steps as step
                (tenant_id, saga_id, step, status, attempts, error, compensated_at)
            values (%(tenant)s, %(saga)s, %(step)s, %(status)s, 0, %(error)s, clock_timestamp())
            on conflict (tenant_id, saga_id, step) do update
            set status = excluded.status, compensated_at = excluded.compensated_at,
                error = coalesce(excluded.error, step.error)
            where step.status <> 'compensated'
            """,
            step=step,
            status="compensation_failed" if error else "compensated",
            error=error,
        )

    def _changed(self, query: Any, **parameters: Any) -> bool:
        return self.transaction.changed(query, self._key | parameters)
