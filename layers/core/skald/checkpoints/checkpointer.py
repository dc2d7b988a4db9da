"""LangGraph's checkpoints on PostgreSQL: small, checked, one writer a thread (G-02)."""

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
from skald.checkpoints.awaited import Awaited
from skald.checkpoints.coalescing import Company
from skald.checkpoints.contents import Contents, config_of, great_values
from skald.checkpoints.errors import CorruptCheckpoint
from skald.checkpoints.newest import Newest
from skald.checkpoints.serializer import Serializer
from skald.checkpoints.store import Place, Write
from skald.checkpoints.stored import Kept
from skald.checkpoints.values import Value
from skald.checkpoints.writers import Writers
from skald.postgres import Call, Database, Transaction
from skald.telemetry import logger, metrics

LEASE_SECONDS = 30.0


class Checkpointer(Awaited):
    """Saves the states of graphs for one tenant.

    A value that changed little is stored as its difference, at most `LONGEST_CHAIN` in a row;
    great content is compressed; all of it carries checksums, and a corrupt newest checkpoint
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
        self._contents = Contents(self.serde)
        self._database = database
        self._tenant_id = tenant_id
        self._call: Call = partial(database.call, tenant_id)
        self._writers = Writers(database, tenant_id, timedelta(seconds=lease_seconds))
        self._company = Company()
        self._newest = Newest()

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
        with self._writers.writing(thread_id) as is_new:
            if is_new:
                self._newest.note_empty(thread_id)
            try:
                yield
            finally:
                self._company.forget(thread_id)
                self._newest.forget(thread_id)

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
        before = place._replace(checkpoint_id=parent) if parent else None
        packed = self._contents.packed(checkpoint, new_versions, self._great_values(before))
        notes = get_serializable_checkpoint_metadata(config, metadata)
        taken = self._taken(before)
        self._newest.fill(place.thread_id)
        self._writers.save(
            place.thread_id,
            lambda token: store.save(self._call, token, place, parent, packed, notes, taken),
        )
        self._remember(place, packed.great)
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

        Or see it taken along by the checkpoint that follows, which is being saved (`Company`).
        """
        at = config["configurable"]
        place = Place(at["thread_id"], at.get("checkpoint_ns", ""), at["checkpoint_id"])
        replace = all(channel in WRITES_IDX_MAP for channel, _ in writes)

        def rows() -> list[Write]:
            great = self._newest.at(place) or {}
            return [
                self._contents.written(
                    task_id, WRITES_IDX_MAP.get(channel, idx), task_path, channel, value, great
                )
                for idx, (channel, value) in enumerate(writes)
            ]

        is_writer = place.thread_id in self._writers.tokens
        if is_writer and not replace and self._company.found(place, rows):
            return
        alone = rows()
        self._writers.save(
            place.thread_id,
            lambda token: store.save_writes(self._call, token, place, alone, replace=replace),
        )

    def _taken(self, before: Place | None) -> Sequence[Write]:
        if before is None or before.thread_id not in self._writers.tokens:
            return ()
        return self._company.taken(before)

    def _great_values(self, place: Place | None) -> Mapping[str, Value]:
        """Return those of the checkpoint that another is to be made of."""
        if place is None:
            return {}
        known = self._newest.at(place)
        if known is not None:
            return known
        found = stored.restore(self._call, place)
        try:
            return great_values(found) if found else {}
        except CorruptCheckpoint:
            return {}  # nothing is built on what cannot be read

    def _remember(self, place: Place, great: Mapping[str, Value]) -> None:
        """Keep what a writer has just saved or read; a reader's memory would grow old."""
        if place.thread_id in self._writers.tokens:
            self._newest.note(place, great)

    # Reading --------------------------------------------------------------------------------------

    @override
    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint asked for, or the thread's newest that can be read.

        Raises `CorruptCheckpoint` for one asked for by its id.
        """
        at = config["configurable"]
        thread_id, namespace = at["thread_id"], at.get("checkpoint_ns", "")
        if wanted := at.get("checkpoint_id"):
            found = stored.restore(self._call, Place(thread_id, namespace, wanted))
            return self._tuple(found) if found else None
        if self._newest.is_empty(thread_id):
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
        with self._once() as tx:
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
                if found is not None:  # nor pruned meanwhile
                    yield self._tuple(found)
            except CorruptCheckpoint as error:
                _alert(place, error)

    def _tuple(self, found: Kept) -> CheckpointTuple:
        great = great_values(found)
        self._remember(found.place, great)
        return self._contents.unpacked(found, great)

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
        self._newest.fill(target_thread_id)
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

    def _once(self) -> AbstractContextManager[Transaction]:
        return self._database.single_statement(self._tenant_id)


def _alert(place: Place, error: CorruptCheckpoint) -> None:
    note = {"checkpoint_id": place.checkpoint_id, "error": str(error)}
    logger.error("checkpoint is corrupt", extra=note)
    metrics.count("checkpoints_corrupt_count")


def _is_internal(channel: str) -> bool:
    return channel.startswith(("__", "branch:"))
