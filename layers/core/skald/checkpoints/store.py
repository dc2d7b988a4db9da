"""SQL of the checkpoints; every write is done by the thread's writer or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ormsgpack
from psycopg.types.json import Jsonb

from skald.checkpoints.values import Row, Source, Stored, checksum_of, verify
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
    alone: Sequence[Write]
    """What tasks wrote and no checkpoint took along."""
    taken: bytes | None
    """What the next checkpoint took along."""
    taken_checksum: int | None

    def writes(self) -> list[Write]:
        """Return what tasks wrote, in the order a live run applies it in.

        Raises `CorruptCheckpoint` where it is not what was saved.
        """
        writes = {(write.task_id, write.idx): write for write in self._taken()}
        writes |= {(write.task_id, write.idx): write for write in self.alone}
        return sorted(writes.values(), key=lambda one: (one.task_path, one.task_id, one.idx))

    def _taken(self) -> list[Write]:
        if self.taken is None or self.taken_checksum is None:
            return []
        packed = ormsgpack.unpackb(verify(self.taken, self.taken_checksum))
        return [_write(self.place, head, data) for *head, data in packed]


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
    taken: Sequence[Write] = (),
) -> bool:
    """Store a checkpoint with the values it brings, and what it takes along of the step before.

    One statement; returns False without the token.
    """
    heads = [
        {"channel": channel, **_base(row.base), **row.stored.head()}
        for channel, row in values.items()
    ]
    packed = ormsgpack.packb([_packed(write) for write in taken]) if taken else None
    return bool(
        tx.value(
            """
            select skald.save_checkpoint(
                %(tenant)s, %(thread)s, %(token)s, %(ns)s, %(id)s, %(parent)s, %(state)b,
                %(checksum)s, %(sources)s, %(metadata)s, %(values)s, %(brought)b,
                %(taken)b, %(checksum_of_taken)s)
            """,
            {
                "tenant": tx.tenant_id,
                "thread": place.thread_id,
                "token": token,
                "ns": place.namespace,
                "id": place.checkpoint_id,
                "parent": parent,
                "state": state,
                "checksum": checksum_of(state),
                "sources": Jsonb(dict(sources)),
                "metadata": Jsonb(dict(metadata)),
                "values": Jsonb(heads),
                "brought": [row.stored.data for row in values.values()],
                "taken": packed,
                "checksum_of_taken": checksum_of(packed) if packed else None,
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
    return bool(
        tx.value(
            "select skald.save_checkpoint_writes(%s, %s, %s, %s, %b, %s)",
            (
                tx.tenant_id,
                thread_id,
                token,
                Jsonb(heads),
                [write.stored.data for write in writes],
                replace,
            ),
        )
    )


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
            _write(place, head, data)
            for head, data in zip(
                row["heads_of_writes"] or (), row["data_of_writes"] or (), strict=True
            )
        ],
        row["taken"],
        row["checksum_of_taken"],
    )


def _rows(stored: Iterable[tuple[Sequence[Any], bytes]]) -> dict[Source, Row]:
    rows: dict[Source, Row] = {}
    for (channel, checkpoint_id, base_channel, base_id, is_compressed, checksum), data in stored:
        base = Source(base_channel or channel, base_id) if base_id else None
        rows[Source(channel, checkpoint_id)] = Row(base, Stored(is_compressed, checksum, data))
    return rows


def _packed(write: Write) -> tuple[Any, ...]:
    """Return what `_write` makes a write of: its head, then its data."""
    return (*write[1:-1], *write.stored)


def _write(place: Place, head: Sequence[Any], data: bytes) -> Write:
    task_id, idx, path, channel, base, is_compressed, checksum = head
    return Write(place, task_id, idx, path, channel, base, Stored(is_compressed, checksum, data))
