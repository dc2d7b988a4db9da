"""SQL that removes and copies checkpoints; values that others need stay."""

from collections.abc import Sequence

from skald.checkpoints.store import Place
from skald.postgres import Transaction


def delete_thread(tx: Transaction, thread_id: str) -> None:
    for statement in (
        "delete from skald.checkpoint_writes where tenant_id = %s and thread_id = %s",
        "delete from skald.checkpoint_values where tenant_id = %s and thread_id = %s",
        "delete from skald.checkpoints where tenant_id = %s and thread_id = %s",
        "delete from skald.checkpoint_threads where tenant_id = %s and thread_id = %s",
    ):
        tx.execute(statement, (tx.tenant_id, thread_id))


def delete_checkpoints(tx: Transaction, places: Sequence[Place]) -> None:
    """Delete checkpoints, and the values that no other checkpoint needs."""
    if not places:
        return
    keys = {
        "tenant": tx.tenant_id,
        "threads": [place.thread_id for place in places],
        "spaces": [place.namespace for place in places],
        "ids": [place.checkpoint_id for place in places],
    }
    for statement in (
        """
        delete from skald.checkpoint_writes as kept
        using unnest(%(threads)s::text[], %(spaces)s::text[], %(ids)s::text[]) as gone(t, n, i)
        where tenant_id = %(tenant)s and (thread_id, checkpoint_ns, checkpoint_id) = (t, n, i)
        """,
        """
        delete from skald.checkpoints as kept
        using unnest(%(threads)s::text[], %(spaces)s::text[], %(ids)s::text[]) as gone(t, n, i)
        where tenant_id = %(tenant)s and (thread_id, checkpoint_ns, checkpoint_id) = (t, n, i)
        """,
        # A value is needed by the checkpoints that name it and by the differences built on it.
        """
        with recursive needed as (
            select thread_id, checkpoint_ns, source.key collate "C" as channel,
                   source.value collate "C" as checkpoint_id
            from skald.checkpoints, jsonb_each_text(value_sources) as source
            where tenant_id = %(tenant)s and thread_id = any(%(threads)s)
            union
            select thread_id, checkpoint_ns, coalesce(base_channel, channel), base_checkpoint_id
            from needed join skald.checkpoint_values using
                (thread_id, checkpoint_ns, channel, checkpoint_id)
            where tenant_id = %(tenant)s and base_checkpoint_id is not null
        )
        delete from skald.checkpoint_values as kept
        where tenant_id = %(tenant)s and thread_id = any(%(threads)s) and not exists (
            select 1 from needed
            where (needed.thread_id, needed.checkpoint_ns, needed.channel, needed.checkpoint_id)
                = (kept.thread_id, kept.checkpoint_ns, kept.channel, kept.checkpoint_id))
        """,
    ):
        tx.execute(statement, keys)


def superseded(tx: Transaction, thread_id: str) -> list[Place]:
    """Return all checkpoints of the thread but the newest of each namespace.

    The list is empty for a thread whose channels are replayed from ancestors (`DeltaChannel`).
    """
    rows = tx.execute(
        """
        select thread_id, checkpoint_ns, checkpoint_id
        from (
            select *, bool_or(metadata ? 'counters_since_delta_snapshot') over () as is_replayed,
                   max(checkpoint_id) over (partition by checkpoint_ns) as newest
            from skald.checkpoints where tenant_id = %s and thread_id = %s
        ) as kept
        where checkpoint_id < newest and not is_replayed
        """,
        (tx.tenant_id, thread_id),
    )
    return [Place(*row.values()) for row in rows]


def places_of_runs(tx: Transaction, run_ids: Sequence[str]) -> list[Place]:
    """Return the checkpoints that these runs made."""
    rows = tx.execute(
        "select thread_id, checkpoint_ns, checkpoint_id from skald.checkpoints"
        " where tenant_id = %s and metadata ? 'run_id' and metadata ->> 'run_id' = any(%s)",
        (tx.tenant_id, list(run_ids)),
    )
    return [Place(*row.values()) for row in rows]


def copy_thread(tx: Transaction, source: str, target: str) -> None:
    """Copy a thread with its checkpoints, pending writes and values."""
    for statement in (
        """
        insert into skald.checkpoints (tenant_id, thread_id, checkpoint_ns, checkpoint_id,
            parent_checkpoint_id, state, checksum, value_sources, metadata, taken_writes,
            taken_checksum)
        select tenant_id, %s, checkpoint_ns, checkpoint_id,
            parent_checkpoint_id, state, checksum, value_sources, metadata, taken_writes,
            taken_checksum
        from skald.checkpoints where tenant_id = %s and thread_id = %s
        """,
        """
        insert into skald.checkpoint_values (tenant_id, thread_id, checkpoint_ns, channel,
            checkpoint_id, base_channel, base_checkpoint_id, is_compressed, data_size_bytes,
            checksum, data)
        select tenant_id, %s, checkpoint_ns, channel,
            checkpoint_id, base_channel, base_checkpoint_id, is_compressed, data_size_bytes,
            checksum, data
        from skald.checkpoint_values where tenant_id = %s and thread_id = %s
        """,
        """
        insert into skald.checkpoint_writes (tenant_id, thread_id, checkpoint_ns, checkpoint_id,
            task_id, idx, task_path, channel, base_channel, is_compressed, data_size_bytes,
            checksum, data)
        select tenant_id, %s, checkpoint_ns, checkpoint_id,
            task_id, idx, task_path, channel, base_channel, is_compressed, data_size_bytes,
            checksum, data
        from skald.checkpoint_writes where tenant_id = %s and thread_id = %s
        """,
    ):
        tx.execute(statement, (target, tx.tenant_id, source))
