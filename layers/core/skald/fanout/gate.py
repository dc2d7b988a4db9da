"""The gate behind a fan-out: opened by the last task, once all have ended (V-05).

The task is committed before it arrives here. What a crash leaves undone between the two is done by
the task's redelivery, or by the sweep.
"""

from collections.abc import Callable
from datetime import timedelta

from skald.fanout import rows
from skald.fanout.rows import Counts, FanOutKey
from skald.postgres import database, lookout
from skald.saga import tokens
from skald.telemetry import logger, metrics
from skald.valkey import valkey
from skald.valkey.barrier import Barrier

CLOSED_FOR = timedelta(minutes=5)
"""How long a gate stays closed behind its last task before the sweep opens it (V-06)."""


def arrive(key: FanOutKey, task_id: str, counts: Counts | None = None) -> None:
    """Let a task arrive at the barrier; the one that makes it whole opens the gate.

    Without the `counts` of the commit that ended it, its row is asked: a task that another worker
    has taken over has not ended, and does not arrive.
    """
    if counts is None:
        with database().transaction(key.tenant_id) as tx:
            counts = rows.counts_behind(tx, key, task_id)
    if counts is not None and _barrier(key).arrive(task_id) >= counts.total:
        open_gate(key)


def open_gate(key: FanOutKey) -> None:
    """Answer the step that waits for the tasks, if they have all ended and one does.

    Two calls at once may both answer, and Step Functions takes a token once. A token whose wait
    is over is settled too.
    """
    with database().transaction(key.tenant_id) as tx:
        token = rows.token_of_closed(tx, key)
    if token is None:
        return  # No step waits yet: it looks for itself when it begins to. Or it was answered.
    tokens.succeed(token, {})
    with database().transaction(key.tenant_id) as tx:
        rows.note_opened(tx, key, token)
    _barrier(key).remove()


def sweep(is_time_left: Callable[[], bool], closed_for: timedelta = CLOSED_FOR) -> dict[str, int]:
    """Open the gates of all tenants that stay closed although all tasks have ended (V-06)."""
    with lookout().transaction(None) as tx:
        closed = rows.find_closed(tx, closed_for)
    opened = 0
    for key in closed:
        if not is_time_left():
            break
        about = {"tenant_id": str(key.tenant_id), "saga_id": key.saga_id, "fanout": key.name}
        logger.warning("gate left closed", extra=about)
        metrics.count("gates_left_closed_count", fanout=key.name)
        try:
            open_gate(key)
            opened += 1
        except Exception:
            # The others do not wait for this one, which the next sweep tries again.
            logger.exception("gate not opened", extra=about)
    return {"closed": len(closed), "opened": opened}


def _barrier(key: FanOutKey) -> Barrier:
    def members() -> list[str]:
        with database().transaction(key.tenant_id) as tx:
            return rows.finished_tasks(tx, key)

    def count() -> int:
        with database().transaction(key.tenant_id) as tx:
            return rows.finished_count(tx, key)

    name = f"fanout:{key.tenant_id}:{key.saga_id}:{key.name}"
    return Barrier(valkey(), name, members, count)
