"""SQL of the checkpoints; every write is done by the thread's writer or not at all."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from skald.checkpoints.errors import NeedsManualIntervention, ThreadBusy
from skald.checkpoints.values import Row, Stored, checksum_of
from skald.state.postgres import Transaction


class Place(NamedTuple):
    """Where a checkpoint stands."""

    thread_id: str
    namespace: str
    checkpoint_id: str


class Kept(NamedTuple):
    """A checkpoint as it is stored."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_checkpoint_id: str | None
    state: bytes
    checksum: int
    value_sources: dict[str, str]
    metadata: dict[str, Any]


class Write(NamedTuple):
    """What one task wrote to one channel."""

    task_id: str
    idx: int
    task_path: str
    channel: str
    stored: Stored


# The one writer of a thread -----------------------------------------------------------------------


def take(tx: Transaction, thread_id: str, lease: timedelta) -> int:
    """Become the thread's writer; returns the fencing token.

    Raises `ThreadBusy` while another's lease lasts, `NeedsManualIntervention` for a parked thread.
    """
    token: int | None = tx.value(
        """
        insert into skald.checkpoint_threads as thread (tenant_id, thread_id, leased_until)
        values (%(tenant)s, %(thread)s, clock_timestamp() + %(lease)s)
        on conflict (tenant_id, thread_id) do update
            set fencing_token = default, leased_until = excluded.leased_until
            where thread.leased_until < clock_timestamp() and thread.parked_at is null
        returning fencing_token
        """,
        {"tenant": tx.tenant_id, "thread": thread_id, "lease": lease},
    )
    if token is None:
        error = tx.value(
            "select last_error from skald.checkpoint_threads"
            " where tenant_id = %s and thread_id = %s and parked_at is not null",
            (tx.tenant_id, thread_id),
        )
        if error is not None:
            raise NeedsManualIntervention(f"thread {thread_id} is parked: {error}")
        raise ThreadBusy(f"thread {thread_id} has another writer")
    return token


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
    """Let others write the thread, if it is still the writer's."""
    tx.execute(
        "update skald.checkpoint_threads set leased_until = '-infinity'"
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


# Writing ------------------------------------------------------------------------------------------


def save(
    tx: Transaction,
    token: int,
    place: Place,
    parent: str | None,
    state: bytes,
    sources: Mapping[str, str],
    metadata: Mapping[str, Any],
    values: Mapping[str, Row],
) -> bool:
    """Store a checkpoint with the values it brings, in one statement; False without the token."""
    rows = list(values.values())
    return bool(
        tx.value(
            """
            with held as (
                select 1 from skald.checkpoint_threads
                where tenant_id = %(tenant)s and thread_id = %(thread)s
                  and fencing_token = %(token)s
                for key share
            ),
            new_values as (
                insert into skald.checkpoint_values
                    (tenant_id, thread_id, checkpoint_ns, checkpoint_id, channel,
                     base_checkpoint_id, is_compressed, data_size_bytes, checksum, data)
                select %(tenant)s, %(thread)s, %(ns)s, %(id)s, channel,
                       base, is_compressed, size, sum, data
                from held, unnest(%(channels)s::text[], %(bases)s::text[], %(compressed)s::bool[],
                                  %(sizes)s::int[], %(sums)s::bigint[], %(data)b::bytea[])
                    as brought(channel, base, is_compressed, size, sum, data)
                on conflict do nothing
            )
            insert into skald.checkpoints
                (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
                 state, checksum, value_sources, metadata)
            select %(tenant)s, %(thread)s, %(ns)s, %(id)s, %(parent)s,
                   %(state)b, %(checksum)s, %(sources)s, %(metadata)s
            from held
            on conflict (tenant_id, thread_id, checkpoint_ns, checkpoint_id) do update
                set metadata = excluded.metadata
            returning true
            """,
            {
                **_key(tx, token, place),
                "parent": parent,
                "state": state,
                "checksum": checksum_of(state),
                "sources": Jsonb(dict(sources)),
                "metadata": Jsonb(dict(metadata)),
                "channels": list(values),
                "bases": [row.base_checkpoint_id for row in rows],
                **_columns([row.stored for row in rows]),
            },
        )
    )


def save_writes(
    tx: Transaction, token: int, place: Place, writes: Sequence[Write], *, replace: bool
) -> bool:
    """Store what a task wrote, for the step after the checkpoint; False without the token."""
    return bool(
        tx.value(
            """
            with held as (
                select 1 from skald.checkpoint_threads
                where tenant_id = %(tenant)s and thread_id = %(thread)s
                  and fencing_token = %(token)s
                for key share
            ),
            new_writes as (
                insert into skald.checkpoint_writes as kept
                    (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path,
                     channel, is_compressed, data_size_bytes, checksum, data)
                select %(tenant)s, %(thread)s, %(ns)s, %(id)s, task, idx, path, channel,
                       is_compressed, size, sum, data
                from held, unnest(%(tasks)s::text[], %(idxs)s::int[], %(paths)s::text[],
                                  %(channels)s::text[], %(compressed)s::bool[], %(sizes)s::int[],
                                  %(sums)s::bigint[], %(data)b::bytea[])
                    as written(task, idx, path, channel, is_compressed, size, sum, data)
                on conflict (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
                do update set channel = excluded.channel, data = excluded.data,
                    is_compressed = excluded.is_compressed, checksum = excluded.checksum,
                    data_size_bytes = excluded.data_size_bytes
                    where %(replace)s
            )
            select true from held
            """,
            {
                **_key(tx, token, place),
                "replace": replace,
                "tasks": [write.task_id for write in writes],
                "idxs": [write.idx for write in writes],
                "paths": [write.task_path for write in writes],
                "channels": [write.channel for write in writes],
                **_columns([write.stored for write in writes]),
            },
        )
    )


def _key(tx: Transaction, token: int, place: Place) -> dict[str, Any]:
    return {
        "tenant": tx.tenant_id,
        "thread": place.thread_id,
        "token": token,
        "ns": place.namespace,
        "id": place.checkpoint_id,
    }


def _columns(contents: Sequence[Stored]) -> dict[str, list[Any]]:
    """Return the contents as the arrays that `unnest` makes rows of."""
    return {
        "compressed": [stored.is_compressed for stored in contents],
        "sizes": [stored.data_size_bytes for stored in contents],
        "sums": [stored.checksum for stored in contents],
        "data": [stored.data for stored in contents],
    }


# Reading ------------------------------------------------------------------------------------------


def checkpoints(
    tx: Transaction,
    *,
    thread_id: str | None = None,
    namespace: str | None = None,
    checkpoint_id: str | None = None,
    before: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> list[Kept]:
    """Return what fits, newest first."""
    found = tx.execute(
        """
        select thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, state, checksum,
               value_sources, metadata
        from skald.checkpoints
        where tenant_id = %(tenant)s
          and (%(thread)s::text is null or thread_id = %(thread)s)
          and (%(ns)s::text is null or checkpoint_ns = %(ns)s)
          and (%(id)s::text is null or checkpoint_id = %(id)s)
          and (%(before)s::text is null or checkpoint_id < %(before)s)
          and (%(metadata)s::jsonb is null or metadata @> %(metadata)s)
        order by checkpoint_id desc
        limit %(limit)s
        """,
        {
            "tenant": tx.tenant_id,
            "thread": thread_id,
            "ns": namespace,
            "id": checkpoint_id,
            "before": before,
            "metadata": Jsonb(dict(metadata)) if metadata else None,
            "limit": limit,
        },
    ).fetchall()
    return [Kept(**row) for row in found]


def values(tx: Transaction, kept: Kept) -> dict[str, dict[str, Row]]:
    """Return the rows that a checkpoint's values are made of: channel -> checkpoint -> row."""
    if not kept.value_sources:
        return {}
    rows: dict[str, dict[str, Row]] = {channel: {} for channel in kept.value_sources}
    for row in tx.execute(
        """
        with recursive chain as (
            select stored.* from skald.checkpoint_values as stored
            join unnest(%(channels)s::text[], %(ids)s::text[]) as wanted(channel, checkpoint_id)
                using (channel, checkpoint_id)
            where tenant_id = %(tenant)s and thread_id = %(thread)s and checkpoint_ns = %(ns)s
            union
            select base.* from chain join skald.checkpoint_values as base
                on base.tenant_id = %(tenant)s and base.thread_id = %(thread)s
                and base.checkpoint_ns = %(ns)s and base.channel = chain.channel
                and base.checkpoint_id = chain.base_checkpoint_id
        )
        select channel, checkpoint_id, base_checkpoint_id, is_compressed, data_size_bytes,
               checksum, data
        from chain
        """,
        {
            "tenant": tx.tenant_id,
            "thread": kept.thread_id,
            "ns": kept.checkpoint_ns,
            "channels": list(kept.value_sources),
            "ids": list(kept.value_sources.values()),
        },
    ):
        stored = _stored(row)
        rows[row["channel"]][row["checkpoint_id"]] = Row(row["base_checkpoint_id"], stored)
    return rows


def writes(tx: Transaction, place: Place) -> list[Write]:
    """Return what tasks wrote after a checkpoint, in the order a live run applies it in."""
    return [
        Write(
            row["task_id"],
            row["idx"],
            row["task_path"],
            row["channel"],
            _stored(row),
        )
        for row in tx.execute(
            """
            select task_id, idx, task_path, channel, is_compressed, data_size_bytes, checksum, data
            from skald.checkpoint_writes
            where tenant_id = %s and thread_id = %s and checkpoint_ns = %s and checkpoint_id = %s
            order by task_path, task_id, idx
            """,
            (tx.tenant_id, *place),
        )
    ]


def _stored(row: Mapping[str, Any]) -> Stored:
    return Stored(row["is_compressed"], row["data_size_bytes"], row["checksum"], row["data"])


# Removing -----------------------------------------------------------------------------------------


def delete_thread(tx: Transaction, thread_id: str) -> None:
    for statement in (
        "delete from skald.checkpoint_writes where tenant_id = %s and thread_id = %s",
        "delete from skald.checkpoint_values where tenant_id = %s and thread_id = %s",
        "delete from skald.checkpoints where tenant_id = %s and thread_id = %s",
        "delete from skald.checkpoint_threads where tenant_id = %s and thread_id = %s",
    ):
        tx.execute(statement, (tx.tenant_id, thread_id))


def delete_checkpoints(tx: Transaction, places: Sequence[Place]) -> None:
    """Delete checkpoints and all that only they need; what others are made of stays."""
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
            select thread_id, checkpoint_ns, channel, base_checkpoint_id
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


def places_of_runs(tx: Transaction, run_ids: Sequence[str]) -> list[Place]:
    """Return the checkpoints that these runs made."""
    rows = tx.execute(
        "select thread_id, checkpoint_ns, checkpoint_id from skald.checkpoints"
        " where tenant_id = %s and metadata ? 'run_id' and metadata ->> 'run_id' = any(%s)",
        (tx.tenant_id, list(run_ids)),
    )
    return [Place(*row.values()) for row in rows]


def copy_thread(tx: Transaction, source: str, target: str) -> None:
    """Copy all of a thread, its pending writes and the values behind it."""
    for statement in (
        """
        insert into skald.checkpoints select tenant_id, %s, checkpoint_ns, checkpoint_id,
            parent_checkpoint_id, state, checksum, value_sources, metadata
        from skald.checkpoints where tenant_id = %s and thread_id = %s
        """,
        """
        insert into skald.checkpoint_values (tenant_id, thread_id, checkpoint_ns, channel,
            checkpoint_id, base_checkpoint_id, is_compressed, data_size_bytes, checksum, data)
        select tenant_id, %s, checkpoint_ns, channel,
            checkpoint_id, base_checkpoint_id, is_compressed, data_size_bytes, checksum, data
        from skald.checkpoint_values where tenant_id = %s and thread_id = %s
        """,
        """
        insert into skald.checkpoint_writes select tenant_id, %s, checkpoint_ns, checkpoint_id,
            task_id, idx, task_path, channel, is_compressed, data_size_bytes, checksum, data
        from skald.checkpoint_writes where tenant_id = %s and thread_id = %s
        """,
    ):
        tx.execute(statement, (target, tx.tenant_id, source))
