"""LangGraph's checkpoints on PostgreSQL: small, checked, one writer per thread (G-02)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, override
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)

from skald.checkpoints import removal, store, stored
from skald.checkpoints.asynchronous import AsyncMethods
from skald.checkpoints.coalescing import WriteCoalescer
from skald.checkpoints.contents import Contents, config_of, large_values
from skald.checkpoints.errors import CorruptCheckpoint
from skald.checkpoints.serializer import Serializer
from skald.checkpoints.store import Place, Write
from skald.checkpoints.stored import StoredCheckpoint
from skald.checkpoints.thread_cache import ThreadCache
from skald.checkpoints.values import Value
from skald.checkpoints.writers import Writers
from skald.postgres import Call, Database, Transaction
from skald.telemetry import logger, metrics

LEASE_SECONDS = 30.0


class Checkpointer(AsyncMethods):
    """Saves the states of graphs for one tenant.

    A value that changed little is stored as a difference, at most `LONGEST_CHAIN` in a row. Large
    content is compressed. All content has checksums: if the newest checkpoint is corrupt, the one
    before it is used. Only the thread's writer can save. `writing` makes the caller the writer; a
    save outside of it becomes the writer for its duration. States may contain `types` and plain
    data.
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
        self._contents = Contents(self.serde)
        self._database = database
        self._tenant_id = tenant_id
        self._call: Call = partial(database.call, tenant_id)
        self._writers = Writers(database, tenant_id, timedelta(seconds=lease_seconds))
        self._coalescer = WriteCoalescer()
        self._cache = ThreadCache()

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

        Raises `ThreadBusy` while another writer has it, and `NeedsManualIntervention` for a parked
        thread.
        """
        with self._writers.writing(thread_id) as is_new:
            if is_new:
                self._cache.note_empty(thread_id)
            try:
                yield
            finally:
                self._coalescer.forget(thread_id)
                self._cache.forget(thread_id)

    def renew(self, thread_id: str) -> None:
        """Prolong the writer's lease; raises `ThreadBusy` when the thread was taken over."""
        self._writers.renew(thread_id)

    def resolve(self, thread_id: str) -> bool:
        """Unpark a thread after a person has examined it; returns whether it was parked."""
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
        before = place._replace(checkpoint_id=parent) if parent else None
        packed = self._contents.packed(checkpoint, new_versions, self._large_values(before))
        notes = get_serializable_checkpoint_metadata(config, metadata)
        coalesced = self._collected(before)
        self._cache.note_saving(place.thread_id)
        self._writers.save(
            place.thread_id,
            lambda token: store.save(self._call, token, place, parent, packed, notes, coalesced),
        )
        self._remember(place, packed.large)
        return config_of(place)

    @override
    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a finished task wrote, so that it never runs again for this checkpoint.

        The checkpoint that follows may save it in its own statement (`WriteCoalescer`).
        """
        at = config["configurable"]
        place = Place(at["thread_id"], at.get("checkpoint_ns", ""), at["checkpoint_id"])
        replace = all(channel in WRITES_IDX_MAP for channel, _ in writes)

        def rows() -> list[Write]:
            large = self._cache.get(place) or {}
            return [
                self._contents.written(
                    task_id, WRITES_IDX_MAP.get(channel, idx), task_path, channel, value, large
                )
                for idx, (channel, value) in enumerate(writes)
            ]

        is_writer = place.thread_id in self._writers.tokens
        if is_writer and not replace and self._coalescer.offer(place, rows):
            return
        written = rows()
        self._writers.save(
            place.thread_id,
            lambda token: store.save_writes(self._call, token, place, written, replace=replace),
        )

    def _collected(self, before: Place | None) -> Sequence[Write]:
        if before is None or before.thread_id not in self._writers.tokens:
            return ()
        return self._coalescer.collect(before)

    def _large_values(self, place: Place | None) -> Mapping[str, Value]:
        """Return the large values of the previous checkpoint."""
        if place is None:
            return {}
        known = self._cache.get(place)
        if known is not None:
            return known
        found = stored.restore(self._call, place)
        try:
            return large_values(found) if found else {}
        except CorruptCheckpoint:
            return {}  # no difference is built on a value that cannot be read

    def _remember(self, place: Place, large: Mapping[str, Value]) -> None:
        """Cache the values a writer has just saved or read; a reader's cache would become stale."""
        if place.thread_id in self._writers.tokens:
            self._cache.put(place, large)

    # Reading --------------------------------------------------------------------------------------

    @override
    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the requested checkpoint, or the newest readable one of the thread.

        Raises `CorruptCheckpoint` if the checkpoint was requested by its id.
        """
        at = config["configurable"]
        thread_id, namespace = at["thread_id"], at.get("checkpoint_ns", "")
        if wanted := at.get("checkpoint_id"):
            found = stored.restore(self._call, Place(thread_id, namespace, wanted))
            return self._tuple(found) if found else None
        if self._cache.is_empty(thread_id):
            return None
        before: str | None = None
        while True:
            found = stored.restore_newest(self._call, thread_id, namespace, before)
            if found is None:
                return None
            try:
                return self._tuple(found)
            except CorruptCheckpoint as error:
                _alert(found.place, error)
                before = found.place.checkpoint_id

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
        with self._database.single_statement(self._tenant_id) as tx:
            places = stored.places(
                tx,
                thread_id=at.get("thread_id"),
                namespace=at.get("checkpoint_ns"),
                checkpoint_id=at.get("checkpoint_id"),
                before=before["configurable"].get("checkpoint_id") if before else None,
                metadata=filter,
                limit=limit,
            )
        for place in places:
            found = stored.restore(self._call, place)
            try:
                if found is not None:  # else it was pruned after it was listed
                    yield self._tuple(found)
            except CorruptCheckpoint as error:
                _alert(place, error)

    def _tuple(self, found: StoredCheckpoint) -> CheckpointTuple:
        large = large_values(found)
        self._remember(found.place, large)
        return self._contents.unpacked(found, large)

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
        self._cache.note_saving(target_thread_id)
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


def _alert(place: Place, error: CorruptCheckpoint) -> None:
    note = {"checkpoint_id": place.checkpoint_id, "error": str(error)}
    logger.error("checkpoint is corrupt", extra=note)
    metrics.count("checkpoints_corrupt_count")


def _is_internal(channel: str) -> bool:
    return channel.startswith(("__", "branch:"))
