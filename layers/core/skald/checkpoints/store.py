"""SQL of the checkpoints; every write is done by the thread's writer or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from skald.checkpoints.values import Row, Source, Stored, checksum_of
from skald.state.postgres import Transaction


class Place(NamedTuple):
    """Where a checkpoint stands."""

    thread_id: str
    namespace: str
    checkpoint_id: str


class Write(NamedTuple):
    """What one task wrote to one channel, for the step after the checkpoint at `place`."""

    place: Place
    task_id: str
    idx: int
    task_path: str
    channel: str
    base_channel: str | None
    """Whose value at `place` it is a difference to; None where it is stored whole."""
    stored: Stored


class Kept(NamedTuple):
    """A checkpoint as it is stored, with the rows its values are made of and what tasks wrote."""

    place: Place
    parent_checkpoint_id: str | None
    state: bytes
    checksum: int
    sources: Mapping[str, str]
    """Which checkpoint stored the value of a channel."""
    metadata: Mapping[str, Any]
    rows: Mapping[Source, Row]
    writes: Sequence[Write]
    """In the order a live run applies them in."""


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
    writes: Sequence[Write] = (),
) -> bool:
    """Store a checkpoint with the values it brings, and what tasks wrote before it.

    One statement; returns False without the token.
    """
    heads = [
        {"channel": channel, **_base(row.base), **row.stored.head()}
        for channel, row in values.items()
    ]
    return bool(
        tx.value(
            """
            select skald.save_checkpoint(
                %(tenant)s, %(thread)s, %(token)s, %(ns)s, %(id)s, %(parent)s, %(state)b,
                %(checksum)s, %(sources)s, %(metadata)s, %(values)s, %(brought)b,
                %(writes)s, %(written)b)
            """,
            {
                **_written(tx, token, place.thread_id, writes),
                "ns": place.namespace,
                "id": place.checkpoint_id,
                "parent": parent,
                "state": state,
                "checksum": checksum_of(state),
                "sources": Jsonb(dict(sources)),
                "metadata": Jsonb(dict(metadata)),
                "values": Jsonb(heads),
                "brought": [row.stored.data for row in values.values()],
            },
        )
    )


def _base(source: Source | None) -> dict[str, str | None]:
    channel, checkpoint_id = source or (None, None)
    return {"base_channel": channel, "base": checkpoint_id}


def save_writes(
    tx: Transaction, token: int, thread_id: str, writes: Sequence[Write], *, replace: bool
) -> bool:
    """Store what a task wrote, for the step after the checkpoint; False without the token."""
    return bool(
        tx.value(
            """
            select skald.save_checkpoint_writes(
                %(tenant)s, %(thread)s, %(token)s, %(writes)s, %(written)b, %(replace)s)
            """,
            {**_written(tx, token, thread_id, writes), "replace": replace},
        )
    )


def _written(
    tx: Transaction, token: int, thread_id: str, writes: Sequence[Write]
) -> dict[str, Any]:
    heads = [
        {
            "ns": write.place.namespace,
            "id": write.place.checkpoint_id,
            "task": write.task_id,
            "idx": write.idx,
            "path": write.task_path,
            "channel": write.channel,
            "base": write.base_channel,
            **write.stored.head(),
        }
        for write in writes
    ]
    return {
        "tenant": tx.tenant_id,
        "thread": thread_id,
        "token": token,
        "writes": Jsonb(heads),
        "written": [write.stored.data for write in writes],
    }


# Reading ------------------------------------------------------------------------------------------


def restore(tx: Transaction, place: Place) -> Kept | None:
    """Return the checkpoint at a place with all it is made of, in one statement."""
    return _restored(tx, place.thread_id, place.namespace, place.checkpoint_id, None)


def restore_newest(
    tx: Transaction, thread_id: str, namespace: str, before: str | None
) -> Kept | None:
    """Return the thread's newest checkpoint, or the newest before another, in one statement."""
    return _restored(tx, thread_id, namespace, None, before)


def _restored(
    tx: Transaction, thread_id: str, namespace: str, wanted: str | None, before: str | None
) -> Kept | None:
    row = tx.execute(
        "select * from skald.restore_checkpoint(%s, %s, %s, %s, %s)",
        (tx.tenant_id, thread_id, namespace, wanted, before),
        binary=True,
    ).fetchone()
    return _kept(Place(thread_id, namespace, row["found_id"]), row) if row else None


def places(
    tx: Transaction,
    *,
    thread_id: str | None,
    namespace: str | None,
    checkpoint_id: str | None,
    before: str | None,
    metadata: Mapping[str, Any] | None,
    limit: int | None,
) -> list[Place]:
    """Return where the checkpoints stand that fit, newest first."""
    found = tx.execute(
        """
        select thread_id, checkpoint_ns, checkpoint_id
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
    )
    return [Place(*row.values()) for row in found]


def _kept(place: Place, row: Mapping[str, Any]) -> Kept:
    return Kept(
        place,
        row["parent"],
        row["content"],
        row["content_checksum"],
        row["sources"],
        row["notes"],
        _rows(zip(row["heads_of_values"] or (), row["data_of_values"] or (), strict=True)),
        [
            Write(place, task_id, idx, path, channel, base, Stored(is_compressed, checksum, data))
            for (task_id, idx, path, channel, base, is_compressed, checksum), data in zip(
                row["heads_of_writes"] or (), row["data_of_writes"] or (), strict=True
            )
        ],
    )


def _rows(stored: Iterable[tuple[Sequence[Any], bytes]]) -> dict[Source, Row]:
    rows: dict[Source, Row] = {}
    for (channel, checkpoint_id, base_channel, base_id, is_compressed, checksum), data in stored:
        base = Source(base_channel or channel, base_id) if base_id else None
        rows[Source(channel, checkpoint_id)] = Row(base, Stored(is_compressed, checksum, data))
    return rows
