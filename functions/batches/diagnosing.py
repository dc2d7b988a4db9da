"""The queued step of `batch_pipeline`: agents diagnose a batch; a few batches run at a time.

If a worker is killed, the next worker resumes after the last finished node.
"""

from functools import partial

from batches import precedents, publishing, repository, stages
from batches.agents import Case, investigate
from batches.analysis.findings import Diagnosis
from batches.domain import BatchCommand, BatchStatus
from batches.watching import RedisWatcher
from skald.entrypoints.queued import Heartbeat, queued_step
from skald.entrypoints.step import Result
from skald.life import IllegalTransition
from skald.postgres import Transaction, database


def _investigate(command: BatchCommand, heartbeat: Heartbeat) -> Diagnosis:
    return investigate(
        _case(command),
        thread_id=command.saga_id,
        heartbeat=partial(_show_life, command, heartbeat),
        watcher=RedisWatcher(command.tenant_id, command.batch_id),
    )


def _case(command: BatchCommand) -> Case:
    """Return the case, and mark the batch as diagnosing.

    The mark is set here and not in the queue, because the sweeper counts its time from it (V-06).
    """
    with database().transaction(command.tenant_id) as tx:
        repository.enter(tx, command.batch_id, BatchStatus.DIAGNOSING)
        stages.reached(tx, command.batch_id, BatchStatus.DIAGNOSING)
        files = repository.list_files(tx, command.batch_id)
        gathered = repository.find_statistics(tx, command.batch_id)
    return Case(
        tenant_id=command.tenant_id,
        batch_id=command.batch_id,
        files=publishing.parsed_files(files),
        statistics=publishing.Gathered.model_validate(gathered).statistics,
    )


def _show_life(command: BatchCommand, heartbeat: Heartbeat) -> bool:
    """Report to the sweeper, the queue and the pipeline that the work continues.

    Returns False if the pipeline no longer waits. Raises `IllegalTransition` if the batch has
    ended.
    """
    with database().single_statement(command.tenant_id) as tx:
        if not repository.show_life(tx, command.batch_id):
            raise IllegalTransition(f"batch {command.batch_id} is not being diagnosed any more")
    return heartbeat()


@queued_step(_investigate)
def diagnose(command: BatchCommand, tx: Transaction, diagnosis: Diagnosis) -> Result:
    """Save the diagnosis, with evidence and confidence (V-08), and remember it (V-09)."""
    repository.hold(tx, command.batch_id, BatchStatus.DIAGNOSING)
    repository.save_diagnosis(tx, command.batch_id, diagnosis.model_dump(mode="json"))
    precedents.remember(tx, command.batch_id, diagnosis)
    return {"findings": len(diagnosis.findings)}
