"""The saga log: what each step of a saga returned, committed with what it did (C-07)."""

from collections.abc import Callable
from typing import Any

from psycopg.types.json import Jsonb

from skald.state.postgres import Transaction


class SagaLog:
    """The log of one saga inside the caller's transaction."""

    def __init__(self, transaction: Transaction, saga_id: str) -> None:
        self._transaction = transaction
        self._saga_id = saga_id

    def recorded(self, step: str) -> dict[str, Any] | None:
        """Return what a step returned when it was done, None when it was not."""
        result: dict[str, Any] | None = self._transaction.value(
            "select result from skald.saga_steps"
            " where tenant_id = %s and saga_id = %s and step = %s",
            (self._transaction.tenant_id, self._saga_id, step),
        )
        return result

    def once(self, step: str, effect: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run a step's effect and record its result, or return the result recorded before.

        Two attempts at once: the second waits on the log's key, then returns what the first
        recorded, or does the work itself where the first rolled back.
        """
        claimed = self._transaction.execute(
            """
            insert into skald.saga_steps (tenant_id, saga_id, step, result)
            values (%s, %s, %s, '{}')
            on conflict do nothing
            """,
            (self._transaction.tenant_id, self._saga_id, step),
        ).rowcount
        if not claimed:
            return self.recorded(step) or {}
        result = effect()
        self._transaction.execute(
            "update skald.saga_steps set result = %s, completed_at = clock_timestamp()"
            " where tenant_id = %s and saga_id = %s and step = %s",
            (Jsonb(result), self._transaction.tenant_id, self._saga_id, step),
        )
        return result
