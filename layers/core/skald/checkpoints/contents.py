"""The contents of checkpoints: conversion to the stored form, and back."""

from collections.abc import Mapping
from typing import Any, cast

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.constants import START

from skald.checkpoints.errors import CorruptCheckpoint
from skald.checkpoints.serializer import KIND
from skald.checkpoints.store import Packed, Place, Write
from skald.checkpoints.stored import StoredCheckpoint
from skald.checkpoints.values import (
    INLINE_UP_TO,
    Row,
    Stored,
    Value,
    ValueKey,
    applied,
    restored,
    row_for,
    verify,
    worthwhile_difference,
)


class Contents:
    """Converts checkpoints and writes of tasks with a serializer."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def packed(
        self,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
        before: Mapping[str, Value],
    ) -> Packed:
        """Return a checkpoint to store; large values may be differences to those of `before`."""
        small: dict[str, bytes] = {}
        large: dict[str, Value] = {}
        rows: dict[str, Row] = {}
        for channel, value in checkpoint["channel_values"].items():
            if channel in before and channel not in new_versions:
                large[channel] = before[channel]
                continue
            encoded = self._dump(value)
            if len(encoded) <= INLINE_UP_TO:
                small[channel] = encoded
                continue
            rows[channel], chain = row_for(encoded, _base(before, channel))
            large[channel] = Value(encoded, ValueKey(channel, checkpoint["id"]), chain)
        outline = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        return Packed(ormsgpack.packb([self._dump(outline), small]), large, rows)

    def written(
        self,
        task_id: str,
        idx: int,
        task_path: str,
        channel: str,
        value: Any,
        before: Mapping[str, Value],
    ) -> Write:
        """Return what a task wrote: whole, or as a difference to an earlier value."""
        encoded = self._dump(value)
        base = _base(before, channel) if len(encoded) > INLINE_UP_TO else None
        difference = worthwhile_difference(base.encoded, encoded) if base else None
        if base is None or difference is None:
            return Write(task_id, idx, task_path, channel, None, Stored.of(encoded))
        stored = Stored.of(difference, encoded)
        return Write(task_id, idx, task_path, channel, base.key.channel, stored)

    def unpacked(self, found: StoredCheckpoint, large: Mapping[str, Value]) -> CheckpointTuple:
        """Return a stored checkpoint after checks of all its parts; raises `CorruptCheckpoint`."""
        outline, small = ormsgpack.unpackb(found.state.verified())
        encoded = small | {name: value.encoded for name, value in large.items()}
        values = {name: self._load(data) for name, data in encoded.items()}
        parent = found.parent_checkpoint_id
        return CheckpointTuple(
            config=config_of(found.place),
            checkpoint=cast(Checkpoint, self._load(outline) | {"channel_values": values}),
            metadata=cast(CheckpointMetadata, found.metadata),
            parent_config=config_of(found.place._replace(checkpoint_id=parent)) if parent else None,
            pending_writes=[
                (write.task_id, write.channel, self._load(_written(write, large)))
                for write in found.writes()
            ],
        )

    def _dump(self, value: Any) -> bytes:
        return self._serde.dumps_typed(value)[1]

    def _load(self, data: bytes) -> Any:
        return self._serde.loads_typed((KIND, data))


def large_values(found: StoredCheckpoint) -> dict[str, Value]:
    """Return the values that have rows of their own; raises `CorruptCheckpoint`."""
    return {
        channel: restored(found.rows, ValueKey(channel, checkpoint_id))
        for channel, checkpoint_id in found.sources.items()
    }


def config_of(place: Place) -> RunnableConfig:
    """Return the config by which LangGraph names a checkpoint."""
    return {
        "configurable": {
            "thread_id": place.thread_id,
            "checkpoint_ns": place.namespace,
            "checkpoint_id": place.checkpoint_id,
        }
    }


def _base(large: Mapping[str, Value], channel: str) -> Value | None:
    """Return the base for a channel's difference: its previous value, else the run's input."""
    return large.get(channel) or large.get(START)


def _written(write: Write, large: Mapping[str, Value]) -> bytes:
    """Return what a task wrote, encoded; raises `CorruptCheckpoint`."""
    if write.base_channel is None:
        return write.stored.verified()
    if write.base_channel not in large:
        raise CorruptCheckpoint(f"what {write.channel} was made of is gone")
    content = applied(large[write.base_channel].encoded, write.stored.content())
    return verify(content, write.stored.checksum)
