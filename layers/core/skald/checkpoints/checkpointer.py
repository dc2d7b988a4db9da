"""LangGraph's checkpoints on PostgreSQL: small, checked, one writer a thread (G-02)."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple, cast, override
from uuid import UUID

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.constants import START

from skald.checkpoints import removal, store
from skald.checkpoints.awaited import Awaited
from skald.checkpoints.company import Company
from skald.checkpoints.errors import CorruptCheckpoint
from skald.checkpoints.serializer import KIND, Serializer
from skald.checkpoints.store import Kept, Place, Write
from skald.checkpoints.values import (
    INLINE_UP_TO,
    Row,
    Source,
    Stored,
    Value,
    applied,
    restored,
    row_for,
    verify,
    worthwhile_difference,
)
from skald.checkpoints.writers import Writers
from skald.state.postgres import Database, Transaction
from skald.telemetry import logger, metrics

LEASE_SECONDS = 30.0


class _Sorted(NamedTuple):
    """The values of a checkpoint: small ones encoded, great ones, and the rows these need."""

    small: dict[str, bytes]
    great: dict[str, Value]
    rows: dict[str, Row]


class Checkpointer(Awaited):
    """Saves the states of graphs for one tenant.

    A value that changed little is stored as its difference, at most `LONGEST_CHAIN` in a row;
    content above 1 MiB is compressed; all of it carries checksums, and a corrupt newest checkpoint
    falls back to the one before it. Only the thread's writer can save: `writing` makes one, other
    saves do so for their moment. `types` may stand in states beside plain data.
    """

    def __init__(
        self,
        database: Database,
        tenant_id: UUID,
        *,
        types: Collection[type] = (),
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        super().__init__(serde=Serializer(types))
        self._database = database
        self._tenant_id = tenant_id
        self._writers = Writers(database, tenant_id, timedelta(seconds=lease_seconds))
        self._company = Company()
        self._newest: dict[tuple[str, str], tuple[str, dict[str, Value]]] = {}

    @property
    def tenant_id(self) -> UUID:
        return self._tenant_id

    @property
    def lease_seconds(self) -> float:
        return self._writers.lease.total_seconds()

    # Writers --------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, thread_id: str) -> Iterator[None]:
        """Be the thread's only writer for the block.

        Raises `ThreadBusy` while somebody else is, `NeedsManualIntervention` for a parked thread.
        """
        with self._writers.writing(thread_id):
            try:
                yield
            finally:
                self._company.forget(thread_id)
                for key in [key for key in self._newest if key[0] == thread_id]:
                    del self._newest[key]

    def renew(self, thread_id: str) -> None:
        """Prolong the writer's lease; raises `ThreadBusy` when the thread was taken over."""
        self._writers.renew(thread_id)

    def resolve(self, thread_id: str) -> bool:
        """Let a parked thread go on, once a person has looked at it; returns whether it was."""
        return self._writers.resolve(thread_id)

    def state(self, thread_id: str) -> dict[str, Any] | None:
        """Return the newest valid state of a thread, None when there is none (G-03)."""
        found = self.get_tuple({"configurable": {"thread_id": thread_id}})
        if found is None:
            return None
        values = found.checkpoint["channel_values"]
        return {name: value for name, value in values.items() if not _is_internal(name)}

    # Saving ---------------------------------------------------------------------------------------

    @override
    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; raises `NeedsManualIntervention` after three failures."""
        at = config["configurable"]
        place = Place(at["thread_id"], at.get("checkpoint_ns", ""), checkpoint["id"])
        parent = at.get("checkpoint_id")
        values = self._sorted(place, parent, checkpoint, new_versions)
        outline = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        state = ormsgpack.packb([self._dump(outline), values.small])
        sources = {channel: value.source.checkpoint_id for channel, value in values.great.items()}
        notes = get_serializable_checkpoint_metadata(config, metadata)
        with self._taken(place, parent) as taken:
            self._writers.save(
                place.thread_id,
                lambda tx, token: store.save(
                    tx, token, place, parent, state, sources, notes, values.rows, taken
                ),
            )
        self._remember(place, values.great)
        return _config(*place)

    @override
    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a finished task wrote, so that it never runs again for this checkpoint."""
        at = config["configurable"]
        place = Place(at["thread_id"], at.get("checkpoint_ns", ""), at["checkpoint_id"])
        replace = all(channel in WRITES_IDX_MAP for channel, _ in writes)

        def rows() -> list[Write]:
            return [
                self._write(
                    place, task_id, WRITES_IDX_MAP.get(channel, idx), task_path, channel, value
                )
                for idx, (channel, value) in enumerate(writes)
            ]

        is_writer = place.thread_id in self._writers.tokens
        if is_writer and not replace and self._company.found(place, rows):
            return
        alone = rows()
        self._writers.save(
            place.thread_id,
            lambda tx, token: store.save_writes(tx, token, place.thread_id, alone, replace=replace),
        )

    def _write(
        self, place: Place, task_id: str, idx: int, task_path: str, channel: str, value: Any
    ) -> Write:
        """Return a write's row: whole, or as a difference to a value it was made of."""
        encoded = self._dump(value)
        base = _base(self._known(place) or {}, channel) if len(encoded) > INLINE_UP_TO else None
        delta = worthwhile_difference(base.encoded, encoded) if base else None
        if base is None or delta is None:
            return Write(place, task_id, idx, task_path, channel, None, Stored.of(encoded))
        stored = Stored.of(delta, encoded)
        return Write(place, task_id, idx, task_path, channel, base.source.channel, stored)

    def _taken(self, place: Place, parent: str | None) -> AbstractContextManager[Sequence[Write]]:
        if parent is None or place.thread_id not in self._writers.tokens:
            return nullcontext(())
        return self._company.taken(place._replace(checkpoint_id=parent))

    def _sorted(
        self,
        place: Place,
        parent: str | None,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
    ) -> _Sorted:
        before = self._before(place, parent)
        values = _Sorted({}, {}, {})
        for channel, value in checkpoint["channel_values"].items():
            if channel in before and channel not in new_versions:
                values.great[channel] = before[channel]
                continue
            encoded = self._dump(value)
            if len(encoded) <= INLINE_UP_TO:
                values.small[channel] = encoded
                continue
            values.rows[channel], chain = row_for(encoded, _base(before, channel))
            values.great[channel] = Value(encoded, Source(channel, place.checkpoint_id), chain)
        return values

    def _before(self, place: Place, parent: str | None) -> dict[str, Value]:
        """Return the great values of the checkpoint before; a reader's memory is not trusted."""
        if parent is None:
            return {}
        before = place._replace(checkpoint_id=parent)
        known = self._known(before)
        if known is not None:
            return known
        with self._call() as tx:
            kept = store.restore(tx, before)
        try:
            return _great(kept) if kept else {}
        except CorruptCheckpoint:
            return {}  # nothing is built on what cannot be read

    def _known(self, place: Place) -> dict[str, Value] | None:
        """Return the great values of the newest checkpoint, None for any other."""
        checkpoint_id, great = self._newest.get((place.thread_id, place.namespace), (None, {}))
        return great if checkpoint_id == place.checkpoint_id else None

    def _remember(self, place: Place, great: dict[str, Value]) -> None:
        """Keep what a writer has just saved or read: nobody else can make a newer one meanwhile."""
        if place.thread_id in self._writers.tokens:
            self._newest[place.thread_id, place.namespace] = (place.checkpoint_id, great)

    # Reading --------------------------------------------------------------------------------------

    @override
    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint asked for, or the thread's newest that can be read.

        Raises `CorruptCheckpoint` for one asked for by its id.
        """
        at = config["configurable"]
        thread_id, namespace = at["thread_id"], at.get("checkpoint_ns", "")
        if wanted := at.get("checkpoint_id"):
            with self._call() as tx:
                kept = store.restore(tx, Place(thread_id, namespace, wanted))
            return self._tuple(kept) if kept else None
        before: str | None = None
        while True:
            with self._call() as tx:
                kept = store.restore_newest(tx, thread_id, namespace, before)
            if kept is None:
                return None
            try:
                return self._tuple(kept)
            except CorruptCheckpoint as error:
                _alert(kept.place, error)
                before = kept.place.checkpoint_id

    @override
    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Return checkpoints, newest first; corrupt ones are left out."""
        at = config["configurable"] if config else {}
        with self._once() as tx:
            places = store.places(
                tx,
                thread_id=at.get("thread_id"),
                namespace=at.get("checkpoint_ns"),
                checkpoint_id=at.get("checkpoint_id"),
                before=before["configurable"].get("checkpoint_id") if before else None,
                metadata=filter,
                limit=limit,
            )
        for place in places:
            with self._call() as tx:
                kept = store.restore(tx, place)
            try:
                if kept is not None:  # nor pruned meanwhile
                    yield self._tuple(kept)
            except CorruptCheckpoint as error:
                _alert(place, error)

    def _tuple(self, kept: Kept) -> CheckpointTuple:
        """Return the checkpoint, all of it checked; raises `CorruptCheckpoint`."""
        outline, small = ormsgpack.unpackb(verify(kept.state, kept.checksum))
        great = _great(kept)
        encoded = small | {name: value.encoded for name, value in great.items()}
        self._remember(kept.place, great)
        parent = kept.parent_checkpoint_id
        return CheckpointTuple(
            config=_config(*kept.place),
            checkpoint=cast(
                Checkpoint,
                self._load(outline)
                | {"channel_values": {name: self._load(data) for name, data in encoded.items()}},
            ),
            metadata=cast(CheckpointMetadata, kept.metadata),
            parent_config=_config(*kept.place[:2], parent) if parent else None,
            pending_writes=[
                (write.task_id, write.channel, self._load(_written(write, great)))
                for write in kept.writes()
            ],
        )

    def _dump(self, value: Any) -> bytes:
        return self.serde.dumps_typed(value)[1]

    def _load(self, data: bytes) -> Any:
        return self.serde.loads_typed((KIND, data))

    # Removing and copying -------------------------------------------------------------------------

    @override
    def delete_thread(self, thread_id: str) -> None:
        with self._transaction() as tx:
            removal.delete_thread(tx, thread_id)

    @override
    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        with self._transaction() as tx:
            removal.delete_checkpoints(tx, removal.places_of_runs(tx, run_ids))

    @override
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        with self._writers.writer(target_thread_id), self._transaction() as tx:
            removal.copy_thread(tx, source_thread_id, target_thread_id)

    @override
    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, or none (`delete`).

        A thread whose channels are replayed from their ancestors (`DeltaChannel`) keeps them.
        """
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
                continue
            with self._writers.writer(thread_id), self._transaction() as tx:
                removal.delete_checkpoints(tx, removal.superseded(tx, thread_id))

    def _transaction(self) -> AbstractContextManager[Transaction]:
        return self._database.transaction(self._tenant_id)

    def _call(self) -> AbstractContextManager[Transaction]:
        return self._database.call(self._tenant_id)

    def _once(self) -> AbstractContextManager[Transaction]:
        return self._database.once(self._tenant_id)


def _great(kept: Kept) -> dict[str, Value]:
    """Return the values that have rows of their own; raises `CorruptCheckpoint`."""
    return {
        channel: restored(kept.rows, Source(channel, checkpoint_id))
        for channel, checkpoint_id in kept.sources.items()
    }


def _base(great: dict[str, Value], channel: str) -> Value | None:
    """Return what a channel's value may be made of: the one before, else the run's input."""
    return great.get(channel) or great.get(START)


def _written(write: Write, great: dict[str, Value]) -> bytes:
    """Return what a task wrote; raises `CorruptCheckpoint`."""
    if write.base_channel is None:
        return write.stored.verified()
    if write.base_channel not in great:
        raise CorruptCheckpoint(f"what {write.channel} was made of is gone")
    content = applied(great[write.base_channel].encoded, write.stored.content())
    return verify(content, write.stored.checksum)


def _config(thread_id: str, namespace: str, checkpoint_id: str | None) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }


def _alert(place: Place, error: CorruptCheckpoint) -> None:
    note = {"checkpoint_id": place.checkpoint_id, "error": str(error)}
    logger.error("checkpoint is corrupt", extra=note)
    metrics.count("checkpoints_corrupt_count")


def _is_internal(channel: str) -> bool:
    return channel.startswith(("__", "branch:"))
