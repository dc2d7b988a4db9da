"""SQL that reads checkpoints with all their rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import ormsgpack
from psycopg.types.json import Jsonb

from skald.checkpoints.store import Place, Write
from skald.checkpoints.values import Row, Stored, ValueKey
from skald.postgres import Call, Transaction


class StoredCheckpoint(NamedTuple):
    """A stored checkpoint, the rows of its values, and the writes of tasks."""

    place: Place
    parent_checkpoint_id: str | None
    state: Stored
    sources: Mapping[str, str]
    """The id of the checkpoint that stored the value, by channel."""
    metadata: Mapping[str, Any]
    rows: Mapping[ValueKey, Row]
    separate: list[Write]
    """Writes that were saved by themselves."""
    coalesced: Stored | None
    """Writes that were saved with the next checkpoint."""

    def writes(self) -> list[Write]:
        """Return what tasks wrote, in the order in which a live run applies it.

        Raises `CorruptCheckpoint` if the rows differ from what was saved.
        """
        packed = ormsgpack.unpackb(self.coalesced.verified()) if self.coalesced else []
        coalesced = [Write.unpacked(write) for write in packed]
        writes = {(write.task_id, write.idx): write for write in [*coalesced, *self.separate]}
        return sorted(writes.values(), key=lambda one: (one.task_path, one.task_id, one.idx))


def restore(call: Call, place: Place) -> StoredCheckpoint | None:
    """Return the checkpoint at a place with all its rows, None if there is none."""
    return _restored(call, place.thread_id, place.namespace, place.checkpoint_id, None)


def restore_newest(
    call: Call, thread_id: str, namespace: str, before: str | None
) -> StoredCheckpoint | None:
    """Return the thread's newest checkpoint, or the newest one before `before`."""
    return _restored(call, thread_id, namespace, None, before)


def _restored(
    call: Call, thread_id: str, namespace: str, wanted: str | None, before: str | None
) -> StoredCheckpoint | None:
    parts = call(
        "select * from skald.restore_checkpoint($1, $2, $3, $4, $5)",
        thread_id,
        namespace,
        wanted,
        before,
    )
    found: dict[str, Any] = {"rows": {}, "separate": [], "coalesced": None}
    for part, name, made_by, base_name, base_made_by, notes, *columns in parts:
        stored = Stored(*columns)
        match part:
            case "checkpoint":
                found |= {
                    "place": Place(thread_id, namespace, made_by),
                    "parent_checkpoint_id": base_made_by,
                    "state": stored,
                    "sources": notes[0],
                    "metadata": notes[1],
                }
            case "value":
                base = ValueKey(base_name or name, base_made_by) if base_made_by else None
                found["rows"][ValueKey(name, made_by)] = Row(base, stored)
            case "write":
                idx, path = notes
                found["separate"].append(Write(made_by, idx, path, name, base_name, stored))
            case "taken" if stored.data is not None:
                found["coalesced"] = stored
    return StoredCheckpoint(**found) if parts else None


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
    """Return the places of the matching checkpoints, newest first."""
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
