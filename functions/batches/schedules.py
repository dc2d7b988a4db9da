"""The sweeper: fails batches whose diagnosis has stopped (V-06)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from batches import failing, repository
from batches.domain import BatchStatus
from batches.repository import Stuck
from skald.entrypoints.schedule import schedule
from skald.postgres import database, lookout
from skald.telemetry import logger, metrics

DIAGNOSING_STUCK = timedelta(minutes=10)


@schedule
def sweep(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Fail the batches whose diagnosis sends no heartbeat any more."""
    with lookout().transaction(None) as tx:
        stuck = repository.find_stuck(tx, DIAGNOSING_STUCK)
    repaired = 0
    for batch in stuck:
        if not is_time_left():
            break
        try:
            _fail(batch)
            repaired += 1
        except Exception:
            # The other batches do not wait for this one; the next sweep tries it again.
            logger.exception("stuck batch not repaired", extra={"batch_id": str(batch.batch_id)})
    return {"stuck": len(stuck), "repaired": repaired}


def _fail(stuck: Stuck) -> None:
    logger.warning("stuck batch", extra={"batch_id": str(stuck.batch_id)})
    metrics.count("batches_stuck_count", status=BatchStatus.DIAGNOSING)
    with database().transaction(stuck.tenant_id) as tx:
        batch = repository.lock_batch(tx, stuck.batch_id)
        if batch is None or batch.status is not BatchStatus.DIAGNOSING:
            return
        minutes = DIAGNOSING_STUCK.seconds // 60
        detail = f"the diagnosis did not end within {minutes} minutes"
        failing.give_up(tx, batch, "diagnosis_stuck", detail)
