"""Progress of workflows: read from Redis, stored durably in PostgreSQL (G-14, G-15)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field

from skald.postgres import Database, Transaction
from skald.valkey import BestEffort

if TYPE_CHECKING:
    import redis

KEPT_SECONDS = 86_400
BELIEVED_SECONDS = 5
"""How long Redis keeps the state of a workflow under way.

A crash between the commit and the write to Redis leaves the earlier state there.
"""

_REPORT = """
    insert into skald.workflow_state_cache as held (tenant_id, workflow_id, state)
    values (%(tenant)s, %(workflow)s, %(state)s)
    on conflict (tenant_id, workflow_id)
    do update set state = excluded.state, version = held.version + 1,
                  updated_at = clock_timestamp()
    where (held.state -> 'percentage')::float8 <= (excluded.state -> 'percentage')::float8
      and held.state <> excluded.state
    returning state || jsonb_build_object(
        'workflow_id', workflow_id, 'version', version, 'updated_at', updated_at)
"""
_FIND = """
    select state || jsonb_build_object(
        'workflow_id', workflow_id, 'version', version, 'updated_at', updated_at)
    from skald.workflow_state_cache
    where tenant_id = %s and workflow_id = %s
"""

# A slow writer must not overwrite a newer state with an older one, so Redis compares versions.
_PUT = """
local held = redis.call('HGET', KEYS[1], 'version')
if held and tonumber(held) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'state', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class Progress(BaseModel):
    """How far a workflow is."""

    workflow_id: str = Field(description="The id of the workflow.")
    stage: str = Field(description="The stage it has reached.")
    percentage: float = Field(ge=0, le=100, description="How much of it is done, from 0 to 100.")
    details: dict[str, Any] = Field(
        default_factory=dict, description="What the workflow adds about its stage."
    )
    version: int = Field(description="Counts the changes, from 1.")
    updated_at: datetime = Field(description="When it changed last.")


class WorkflowProgress:
    """Progress of workflows, by tenant and workflow id."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = BestEffort(client, "workflow progress")

    def report(
        self,
        transaction: Transaction,
        workflow_id: str,
        stage: str,
        percentage: float,
        **details: Any,
    ) -> bool:
        """Record the stage that a workflow has reached, in the transaction of its work.

        Progress does not go back: a lower percentage, reported late or again, changes nothing.
        Returns whether the progress changed. Redis is updated after the commit.
        """
        state = {"stage": stage, "percentage": percentage, "details": details}
        tenant_id = transaction.tenant_id
        row = transaction.value(
            _REPORT, {"tenant": tenant_id, "workflow": workflow_id, "state": Jsonb(state)}
        )
        if row is None:
            return False
        progress = Progress.model_validate(row)
        transaction.after_commit(f"progress {workflow_id}", lambda: self._put(tenant_id, progress))
        return True

    def find(self, database: Database, tenant_id: UUID, workflow_id: str) -> Progress | None:
        """Return how far a workflow is, None if it has reported nothing yet."""
        key = _key(tenant_id, workflow_id)
        held = self._redis.attempt(lambda client: client.hget(key, "state"), None)
        if held is not None:
            return Progress.model_validate_json(str(held))
        with database.transaction(tenant_id) as transaction:
            row = transaction.value(_FIND, (tenant_id, workflow_id))
        if row is None:
            return None
        progress = Progress.model_validate(row)
        self._put(tenant_id, progress)
        return progress

    def _put(self, tenant_id: UUID, progress: Progress) -> None:
        key = _key(tenant_id, progress.workflow_id)
        seconds = KEPT_SECONDS if progress.percentage == 100 else BELIEVED_SECONDS
        values = (str(progress.version), progress.model_dump_json(), str(seconds))
        self._redis.attempt(lambda client: client.eval(_PUT, 1, key, *values), None)


def _key(tenant_id: UUID, workflow_id: str) -> str:
    return f"workflow_state:{tenant_id}:{workflow_id}"
