"""The barrier of a batch: when its last file is done, the waiting pipeline goes on (V-05)."""

from uuid import UUID

from batches import repository
from skald.postgres import database
from skald.saga import tokens
from skald.valkey import valkey
from skald.valkey.barrier import Barrier


def arrive(tenant_id: UUID, batch_id: UUID, file_id: UUID) -> None:
    """Count a file whose task has ended; the one that makes the set whole answers the token.

    A file that another worker has taken over meanwhile has not ended, and is not counted.
    """
    with database().transaction(tenant_id) as tx:
        batch = repository.find_batch(tx, batch_id)
        ended = repository.has_ended(tx, batch_id, file_id)
    if batch is None or not ended:
        return
    if _of(tenant_id, batch_id).arrive(str(file_id)) >= batch.total_files:
        answer(tenant_id, batch_id)


def answer(tenant_id: UUID, batch_id: UUID) -> None:
    """Tell the pipeline that every file is done; telling it twice does nothing."""
    with database().transaction(tenant_id) as tx:
        token = repository.parsing_token(tx, batch_id)
    if token is None:
        return  # The pipeline does not wait yet; it looks for itself when it begins to.
    tokens.succeed(token, {})
    _of(tenant_id, batch_id).remove()


def _of(tenant_id: UUID, batch_id: UUID) -> Barrier:
    def finished() -> list[str]:
        with database().transaction(tenant_id) as tx:
            return repository.finished_files(tx, batch_id)

    return Barrier(valkey(), f"batch:{batch_id}:processed_files", finished)
