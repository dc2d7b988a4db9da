"""SQL of the threads: each has one writer, known by its fencing token."""

from datetime import timedelta

from skald.checkpoints.errors import NeedsManualIntervention, ThreadBusy
from skald.state.postgres import Transaction


def take(tx: Transaction, thread_id: str, lease: timedelta) -> int:
    """Become the thread's writer; returns the fencing token.

    Raises `ThreadBusy` while another's lease lasts, `NeedsManualIntervention` for a parked thread.
    """
    (row,) = tx.execute(
        """
        with taken as (
            insert into skald.checkpoint_threads as thread (tenant_id, thread_id, leased_until)
            values (%(tenant)s, %(thread)s, clock_timestamp() + %(lease)s)
            on conflict (tenant_id, thread_id) do update
                set fencing_token = default, leased_until = excluded.leased_until
                where thread.leased_until < clock_timestamp() and thread.parked_at is null
            returning fencing_token
        )
        select (select fencing_token from taken) as token,
               (select last_error from skald.checkpoint_threads
                where tenant_id = %(tenant)s and thread_id = %(thread)s
                  and parked_at is not null) as error
        """,
        {"tenant": tx.tenant_id, "thread": thread_id, "lease": lease},
    )
    if row["token"] is not None:
        return int(row["token"])
    if row["error"] is not None:
        raise NeedsManualIntervention(f"thread {thread_id} is parked: {row['error']}")
    raise ThreadBusy(f"thread {thread_id} has another writer")


def renew(tx: Transaction, thread_id: str, token: int, lease: timedelta) -> None:
    """Prolong the writer's lease; raises `ThreadBusy` when it has lost the thread."""
    changed = tx.execute(
        "update skald.checkpoint_threads set leased_until = clock_timestamp() + %s"
        " where tenant_id = %s and thread_id = %s and fencing_token = %s",
        (lease, tx.tenant_id, thread_id, token),
    ).rowcount
    if not changed:
        raise ThreadBusy(f"thread {thread_id} was taken over")


def leave(tx: Transaction, thread_id: str, token: int) -> None:
    """Let others write the thread, if it is still the writer's; from now on it ages."""
    tx.execute(
        "update skald.checkpoint_threads set leased_until = clock_timestamp()"
        " where tenant_id = %s and thread_id = %s and fencing_token = %s",
        (tx.tenant_id, thread_id, token),
    )


def park(tx: Transaction, thread_id: str, attempts: int, error: str) -> None:
    """Mark the thread for a person to look at (G-02)."""
    tx.execute(
        "update skald.checkpoint_threads"
        " set parked_at = clock_timestamp(), save_attempts = %s, last_error = %s"
        " where tenant_id = %s and thread_id = %s",
        (attempts, error[:2000], tx.tenant_id, thread_id),
    )


def unpark(tx: Transaction, thread_id: str) -> bool:
    """Let a parked thread go on; returns whether it was parked."""
    return (
        tx.execute(
            "update skald.checkpoint_threads"
            " set parked_at = null, save_attempts = 0, last_error = null"
            " where tenant_id = %s and thread_id = %s and parked_at is not null",
            (tx.tenant_id, thread_id),
        ).rowcount
        == 1
    )
