"""The sweeper: repairs batches that stopped moving (V-06)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from batches import barrier, failing, repository
from batches.domain import BatchStatus
from batches.repository import Stuck
from skald.entrypoints.schedule import schedule
from skald.postgres import database, lookout
from skald.telemetry import logger, metrics

PARSING_STUCK = timedelta(minutes=5)
DIAGNOSING_STUCK = timedelta(minutes=10)


@schedule
def sweep(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Answer for batches whose files are all done, fail those that diagnose for too long."""
    with lookout().transaction(None) as tx:
        stuck = repository.find_stuck(tx, PARSING_STUCK, DIAGNOSING_STUCK)
    repaired = 0
    for batch in stuck:
        if not is_time_left():
            break
        try:
            _repair(batch)
            repaired += 1
        except Exception:
            # The others must not wait for this one, which is tried again by the next sweep.
            logger.exception("stuck batch not repaired", extra={"batch_id": str(batch.batch_id)})
    return {"stuck": len(stuck), "repaired": repaired}


def _repair(batch: Stuck) -> None:
    logger.warning("stuck batch", extra={"batch_id": str(batch.batch_id), "status": batch.status})
    metrics.count("batches_stuck_count", status=batch.status)
    if batch.status is BatchStatus.DIAGNOSING:
        _fail(batch)
    else:
        barrier.answer(batch.tenant_id, batch.batch_id)


def _fail(stuck: Stuck) -> None:
    with database().transaction(stuck.tenant_id) as tx:
        batch = repository.lock_batch(tx, stuck.batch_id)
        if batch is None or batch.status is not BatchStatus.DIAGNOSING:
            return
        minutes = DIAGNOSING_STUCK.seconds // 60
        detail = f"the diagnosis did not end within {minutes} minutes"
        failing.give_up(tx, batch, "diagnosis_stuck", detail)
