"""The gate behind a fan-out: the last task opens it, after all tasks have ended (V-05).

A task commits its end before it arrives here. After a crash between the two, the redelivery of the
task or the sweep opens the gate.
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
"""How long after the end of its last task the sweep opens a gate that is still closed (V-06)."""


def arrive(key: FanOutKey, task_id: str, counts: Counts | None = None) -> None:
    """Add a task to the barrier. The task that completes the barrier opens the gate.

    `counts` are those of the commit that ended the task; without them, the rows are read. A task
    that another worker has claimed since has not ended, and does not arrive.
    """
    if counts is None:
        with database().transaction(key.tenant_id) as tx:
            counts = rows.counts_behind(tx, key, task_id)
    if counts is not None and _barrier(key).arrive(task_id) >= counts.total:
        open_gate(key)


def open_gate(key: FanOutKey) -> None:
    """Answer the token of the waiting step, if all tasks have ended and a step waits.

    Two calls at once may both answer; Step Functions accepts one answer for a token. A token whose
    wait is over counts as answered.
    """
    with database().transaction(key.tenant_id) as tx:
        token = rows.token_of_closed(tx, key)
    if token is None:
        return  # No step waits yet, and it checks this itself when it begins. Or it was answered.
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
            # The other gates do not wait for this one; the next sweep tries it again.
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
