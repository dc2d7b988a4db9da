"""SQL of the threads: each has one writer, identified by its fencing token."""

from datetime import timedelta
from typing import NamedTuple

from skald.checkpoints.errors import NeedsManualIntervention, ThreadBusy
from skald.postgres import Call, Transaction


class Taken(NamedTuple):
    """The token of a thread's writer, and whether the thread has no checkpoint yet."""

    token: int
    is_new: bool


def take(call: Call, thread_id: str, lease: timedelta) -> Taken:
    """Become the thread's writer, identified by the fencing token.

    Raises `ThreadBusy` while another writer's lease lasts, and `NeedsManualIntervention` for a
    parked thread.
    """
    rows = call("select * from skald.take_checkpoint_thread($1, $2, $3)", thread_id, lease)
    for token, is_new, error in rows:
        if token is not None:
            return Taken(token, is_new)
        raise NeedsManualIntervention(f"thread {thread_id} is parked: {error}")
    raise ThreadBusy(f"thread {thread_id} has another writer")


def renew(tx: Transaction, thread_id: str, token: int, lease: timedelta) -> None:
    """Prolong the writer's lease; raises `ThreadBusy` when it has lost the thread."""
    changed = tx.changed(
        "update skald.checkpoint_threads set leased_until = clock_timestamp() + %s"
        " where tenant_id = %s and thread_id = %s and fencing_token = %s",
        (lease, tx.tenant_id, thread_id, token),
    )
    if not changed:
        raise ThreadBusy(f"thread {thread_id} was taken over")


def leave(call: Call, thread_id: str, token: int) -> None:
    """Release the thread, if `token` is still its writer's; its retention starts now."""
    call("select skald.leave_checkpoint_thread($1, $2, $3)", thread_id, token)


def park(tx: Transaction, thread_id: str, attempts: int, error: str) -> None:
    """Park the thread until a person has examined it (G-02)."""
    tx.execute(
        "update skald.checkpoint_threads"
        " set parked_at = clock_timestamp(), save_attempts = %s, last_error = %s"
        " where tenant_id = %s and thread_id = %s",
        (attempts, error[:2000], tx.tenant_id, thread_id),
    )


def unpark(tx: Transaction, thread_id: str) -> bool:
    """Unpark the thread; returns whether it was parked."""
    return tx.changed(
        "update skald.checkpoint_threads"
        " set parked_at = null, save_attempts = 0, last_error = null"
        " where tenant_id = %s and thread_id = %s and parked_at is not null",
        (tx.tenant_id, thread_id),
    )
