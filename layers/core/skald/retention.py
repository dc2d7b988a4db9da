"""Deletion of what packages keep whose libraries the function that tidies does without."""

from datetime import timedelta

from skald.postgres import Transaction


def forget_threads(tx: Transaction, older_than: timedelta, limit: int = 100) -> int:
    """Delete checkpoint threads that were not written for so long and up to a day, at most `limit`.

    What waits for a person stays. Needs the relay's role.
    """
    forgotten: int = tx.value(
        """
        with gone as (
            delete from skald.checkpoint_threads
            where ctid = any(array(
                select ctid from skald.checkpoint_threads
                where last_written < ((now() - %s) at time zone 'UTC')::date limit %s))
            returning tenant_id, thread_id
        ),
        writes as (
            delete from skald.checkpoint_writes using gone
            where checkpoint_writes.tenant_id = gone.tenant_id
              and checkpoint_writes.thread_id = gone.thread_id
        ),
        held as (
            delete from skald.checkpoint_values using gone
            where checkpoint_values.tenant_id = gone.tenant_id
              and checkpoint_values.thread_id = gone.thread_id
        ),
        states as (
            delete from skald.checkpoints using gone
            where checkpoints.tenant_id = gone.tenant_id
              and checkpoints.thread_id = gone.thread_id
        )
        select count(*) from gone
        """,
        (older_than, limit),
    )
    return forgotten
