"""SQL that saves checkpoints: only the thread's writer can write."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import ormsgpack

from skald.checkpoints.values import Row, Stored, Value, checksum_of
from skald.postgres import Call


class Place(NamedTuple):
    """The key of a checkpoint within its tenant."""

    thread_id: str
    namespace: str
    checkpoint_id: str


class Write(NamedTuple):
    """What one task wrote to one channel, for the step after a checkpoint."""

    task_id: str
    idx: int
    task_path: str
    channel: str
    base_channel: str | None
    """The channel of that checkpoint whose value is the base; None if the value is stored whole."""
    stored: Stored

    def packed(self) -> tuple[Any, ...]:
        """Return it in the form in which a checkpoint holds it."""
        return (*self[:-1], *self.stored)

    @classmethod
    def unpacked(cls, packed: Sequence[Any]) -> Self:
        task_id, idx, task_path, channel, base_channel, *stored = packed
        return cls(task_id, idx, task_path, channel, base_channel, Stored(*stored))


class Packed(NamedTuple):
    """A checkpoint to store: it with its small values, its large values, and their new rows."""

    state: bytes
    large: dict[str, Value]
    rows: dict[str, Row]

    def sources(self) -> dict[str, str]:
        """Return the id of the checkpoint that stores the value, by channel."""
        return {channel: value.key.checkpoint_id for channel, value in self.large.items()}


def save(
    call: Call,
    token: int,
    place: Place,
    parent: str | None,
    packed: Packed,
    metadata: Mapping[str, Any],
    coalesced: Sequence[Write] = (),
) -> bool:
    """Store a checkpoint with its new values and the writes before it.

    Returns False if the token is not valid any more.
    """
    heads = [_head_of_value(channel, row) for channel, row in packed.rows.items()]
    written = ormsgpack.packb([write.packed() for write in coalesced]) if coalesced else None
    ((is_saved,),) = call(
        "select skald.save_checkpoint($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        place.thread_id,
        token,
        place.namespace,
        place.checkpoint_id,
        parent,
        packed.state,
        checksum_of(packed.state),
        json.dumps(packed.sources()),
        json.dumps(metadata),
        json.dumps(heads) if heads else None,
        [row.stored.data for row in packed.rows.values()] or None,
        written,
        checksum_of(written) if written else None,
    )
    return bool(is_saved)


def save_writes(
    call: Call, token: int, place: Place, writes: Sequence[Write], *, replace: bool
) -> bool:
    """Store what a task wrote after a checkpoint; False if the token is not valid any more."""
    ((is_saved,),) = call(
        "select skald.save_checkpoint_writes($1, $2, $3, $4, $5, $6, $7, $8)",
        place.thread_id,
        token,
        place.namespace,
        place.checkpoint_id,
        json.dumps([_head_of_write(write) for write in writes]),
        [write.stored.data for write in writes],
        replace,
    )
    return bool(is_saved)


def _head_of_value(channel: str, row: Row) -> dict[str, Any]:
    base_channel, base_id = row.base or (None, None)
    return {
        "channel": channel,
        "base_channel": base_channel,
        "base": base_id,
        **row.stored.head(),
    }


def _head_of_write(write: Write) -> dict[str, Any]:
    return {
        "task": write.task_id,
        "idx": write.idx,
        "path": write.task_path,
        "channel": write.channel,
        "base": write.base_channel,
        **write.stored.head(),
    }
