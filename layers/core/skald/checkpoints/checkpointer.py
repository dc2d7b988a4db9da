"""LangGraph's checkpoints on PostgreSQL: small, checked, one writer a thread (G-02)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast, override
from uuid import UUID

import ormsgpack
import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)

from skald.checkpoints import store
from skald.checkpoints.errors import CorruptCheckpoint, NeedsManualIntervention, ThreadBusy
from skald.checkpoints.serializer import KIND, Serializer
from skald.checkpoints.store import Kept, Place, Write
from skald.checkpoints.values import INLINE_UP_TO, Row, Stored, Value, restored, row_for, verify
from skald.state.postgres import Database, Transaction
from skald.telemetry import logger, metrics

LEASE_SECONDS = 30.0
SAVE_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1


class Checkpointer(BaseCheckpointSaver[int]):
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
        self._lease = timedelta(seconds=lease_seconds)
        self._tokens: dict[str, int] = {}
        self._newest: dict[tuple[str, str], tuple[str, dict[str, Value]]] = {}

    @property
    def tenant_id(self) -> UUID:
        return self._tenant_id

    @property
    def lease_seconds(self) -> float:
        return self._lease.total_seconds()

    # Writers --------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, thread_id: str) -> Iterator[None]:
        """Be the thread's only writer for the block.

        Raises `ThreadBusy` while somebody else is, `NeedsManualIntervention` for a parked thread.
        """
        with self._transaction() as tx:
            self._tokens[thread_id] = store.take(tx, thread_id, self._lease)
        try:
            yield
        finally:
            token = self._tokens.pop(thread_id)
            for key in [key for key in self._newest if key[0] == thread_id]:
                del self._newest[key]
            with self._transaction() as tx:
                store.leave(tx, thread_id, token)

    def renew(self, thread_id: str) -> None:
        """Prolong the writer's lease; raises `ThreadBusy` when the thread was taken over."""
        with self._transaction() as tx:
            store.renew(tx, thread_id, self._tokens[thread_id], self._lease)

    def resolve(self, thread_id: str) -> bool:
        """Let a parked thread go on, once a person has looked at it; returns whether it was."""
        with self._transaction() as tx:
            return store.unpark(tx, thread_id)

    def state(self, thread_id: str) -> dict[str, Any] | None:
        """Return the newest valid state of a thread, None when there is none (G-03)."""
        found = self.get_tuple({"configurable": {"thread_id": thread_id}})
        if found is None:
            return None
        values = found.checkpoint["channel_values"]
        return {name: value for name, value in values.items() if not _is_internal(name)}

    @contextmanager
    def _writer(self, thread_id: str) -> Iterator[int]:
        if thread_id in self._tokens:
            yield self._tokens[thread_id]
            return
        with self.writing(thread_id):
            yield self._tokens[thread_id]

    # Saving ---------------------------------------------------------------------------------------

    @override
    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; raises `NeedsManualIntervention` after `SAVE_ATTEMPTS` failures."""
        at = config["configurable"]
        place = Place(at["thread_id"], at.get("checkpoint_ns", ""), checkpoint["id"])
        parent = at.get("checkpoint_id")
        small, great, sources, rows = self._values(place, parent, checkpoint, new_versions)
        outline = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        state = ormsgpack.packb([self.serde.dumps_typed(outline)[1], small])
        notes = get_serializable_checkpoint_metadata(config, metadata)
        self._save(
            place.thread_id,
            lambda tx, token: store.save(tx, token, place, parent, state, sources, notes, rows),
        )
        if place.thread_id in self._tokens:
            self._newest[place.thread_id, place.namespace] = (place.checkpoint_id, great)
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
        rows = [
            Write(
                task_id,
                WRITES_IDX_MAP.get(channel, number),
                task_path,
                channel,
                Stored.of(self.serde.dumps_typed(value)[1]),
            )
            for number, (channel, value) in enumerate(writes)
        ]
        replace = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        self._save(
            place.thread_id,
            lambda tx, token: store.save_writes(tx, token, place, rows, replace=replace),
        )

    def _values(
        self,
        place: Place,
        parent: str | None,
        checkpoint: Checkpoint,
        new_versions: ChannelVersions,
    ) -> tuple[dict[str, bytes], dict[str, Value], dict[str, str], dict[str, Row]]:
        """Sort the values: small ones, great ones, where each of these lies, and the new rows."""
        before = self._before(place, parent)
        small: dict[str, bytes] = {}
        great: dict[str, Value] = {}
        rows: dict[str, Row] = {}
        for channel, value in checkpoint["channel_values"].items():
            if channel in before and channel not in new_versions:
                great[channel] = before[channel]
                continue
            encoded = self.serde.dumps_typed(value)[1]
            if len(encoded) <= INLINE_UP_TO:
                small[channel] = encoded
                continue
            rows[channel], chain = row_for(encoded, before.get(channel))
            great[channel] = Value(encoded, place.checkpoint_id, chain)
        sources = {channel: value.checkpoint_id for channel, value in great.items()}
        return small, great, sources, rows

    def _before(self, place: Place, parent: str | None) -> dict[str, Value]:
        """Return the great values of the checkpoint before; a reader's memory is not trusted."""
        if parent is None:
            return {}
        known = self._newest.get((place.thread_id, place.namespace))
        if known is not None and known[0] == parent:
            return known[1]
        with self._transaction() as tx:
            found = store.checkpoints(
                tx,
                thread_id=place.thread_id,
                namespace=place.namespace,
                checkpoint_id=parent,
            )
            try:
                return self._great(tx, found[0]) if found else {}
            except CorruptCheckpoint:
                return {}  # nothing is built on what cannot be read

    def _save(self, thread_id: str, write: Callable[[Transaction, int], bool]) -> None:
        """Write under the thread's token, three times at most; then a person has to look (G-02)."""
        for attempt in range(1, SAVE_ATTEMPTS + 1):
            try:
                with self._writer(thread_id) as token, self._transaction() as tx:
                    if not write(tx, token):
                        raise ThreadBusy(f"thread {thread_id} was taken over")
                return
            except psycopg.OperationalError as error:
                logger.warning(
                    "checkpoint not saved", extra={"attempt": attempt, "error": str(error)}
                )
                failure = error
            time.sleep(_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
        self._park(thread_id, f"{type(failure).__name__}: {failure}")
        raise NeedsManualIntervention(
            f"no checkpoint of thread {thread_id} in {SAVE_ATTEMPTS} attempts"
        ) from failure

    def _park(self, thread_id: str, error: str) -> None:
        metrics.count("checkpoints_parked_count")
        try:
            with self._transaction() as tx:
                store.park(tx, thread_id, SAVE_ATTEMPTS, error)
        except psycopg.Error:
            logger.exception("thread not parked", extra={"thread_id": thread_id})

    # Reading --------------------------------------------------------------------------------------

    @override
    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint asked for, or the thread's newest that can be read.

        Raises `CorruptCheckpoint` for one asked for by its id.
        """
        at = config["configurable"]
        wanted = at.get("checkpoint_id")
        before: str | None = None
        while True:
            with self._transaction() as tx:
                found = store.checkpoints(
                    tx,
                    thread_id=at["thread_id"],
                    namespace=at.get("checkpoint_ns", ""),
                    checkpoint_id=wanted,
                    before=before,
                    limit=1,
                )
                if not found:
                    return None
                try:
                    return self._tuple(tx, found[0])
                except CorruptCheckpoint as error:
                    if wanted is not None:
                        raise
                    before = found[0].checkpoint_id
                    logger.error(
                        "checkpoint is corrupt",
                        extra={"checkpoint_id": before, "error": str(error)},
                    )
                    metrics.count("checkpoints_corrupt_count")

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
        with self._transaction() as tx:
            for kept in store.checkpoints(
                tx,
                thread_id=at.get("thread_id"),
                namespace=at.get("checkpoint_ns"),
                checkpoint_id=at.get("checkpoint_id"),
                before=before["configurable"].get("checkpoint_id") if before else None,
                metadata=filter,
                limit=limit,
            ):
                try:
                    yield self._tuple(tx, kept)
                except CorruptCheckpoint as error:
                    _alert(kept.checkpoint_id, error)

    def _tuple(self, tx: Transaction, kept: Kept) -> CheckpointTuple:
        outline, small = ormsgpack.unpackb(verify(kept.state, kept.checksum))
        encoded = small | {name: value.encoded for name, value in self._great(tx, kept).items()}
        place = Place(kept.thread_id, kept.checkpoint_ns, kept.checkpoint_id)
        parent = kept.parent_checkpoint_id
        return CheckpointTuple(
            config=_config(*place),
            checkpoint=cast(
                Checkpoint,
                self._load(outline)
                | {"channel_values": {name: self._load(data) for name, data in encoded.items()}},
            ),
            metadata=cast(CheckpointMetadata, kept.metadata),
            parent_config=_config(*place[:2], parent) if parent else None,
            pending_writes=[
                (write.task_id, write.channel, self._load(write.stored.verified()))
                for write in store.writes(tx, place)
            ],
        )

    def _great(self, tx: Transaction, kept: Kept) -> dict[str, Value]:
        rows = store.values(tx, kept)
        return {
            channel: restored(rows[channel], source)
            for channel, source in kept.value_sources.items()
        }

    def _load(self, data: bytes) -> Any:
        return self.serde.loads_typed((KIND, data))

    # Removing and copying -------------------------------------------------------------------------

    @override
    def delete_thread(self, thread_id: str) -> None:
        with self._transaction() as tx:
            store.delete_thread(tx, thread_id)

    @override
    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        with self._transaction() as tx:
            store.delete_checkpoints(tx, store.places_of_runs(tx, run_ids))

    @override
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        with self._writer(target_thread_id), self._transaction() as tx:
            store.copy_thread(tx, source_thread_id, target_thread_id)

    @override
    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, or none (`delete`).

        A thread whose channels are replayed from their ancestors (`DeltaChannel`) keeps them.
        """
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
            else:
                self._prune(thread_id)

    def _prune(self, thread_id: str) -> None:
        with self._writer(thread_id), self._transaction() as tx:
            seen: set[str] = set()
            superseded: list[Place] = []
            for kept in store.checkpoints(tx, thread_id=thread_id):
                if kept.metadata.get("counters_since_delta_snapshot"):
                    return
                if kept.checkpoint_ns in seen:
                    superseded.append(Place(thread_id, kept.checkpoint_ns, kept.checkpoint_id))
                seen.add(kept.checkpoint_ns)
            store.delete_checkpoints(tx, superseded)

    # The same in a thread, for who awaits ---------------------------------------------------------

    @override
    async def aput(self, *arguments: Any, **named: Any) -> RunnableConfig:
        return await asyncio.to_thread(self.put, *arguments, **named)

    @override
    async def aput_writes(self, *arguments: Any, **named: Any) -> None:
        await asyncio.to_thread(self.put_writes, *arguments, **named)

    @override
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self.get_tuple, config)

    @override
    async def alist(
        self, config: RunnableConfig | None, **named: Any
    ) -> AsyncIterator[CheckpointTuple]:
        for found in await asyncio.to_thread(lambda: [*self.list(config, **named)]):
            yield found

    @override
    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.delete_thread, thread_id)

    @override
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    @override
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    @override
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)

    def _transaction(self) -> Any:
        return self._database.transaction(self._tenant_id)


def _config(thread_id: str, namespace: str, checkpoint_id: str | None) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }


def _alert(checkpoint_id: str, error: CorruptCheckpoint) -> None:
    note = {"checkpoint_id": checkpoint_id, "error": str(error)}
    logger.error("checkpoint is corrupt", extra=note)
    metrics.count("checkpoints_corrupt_count")


def _is_internal(channel: str) -> bool:
    return channel.startswith(("__", "branch:"))
