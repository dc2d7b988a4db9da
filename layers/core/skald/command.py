"""The command a step of a saga is given. Pure, so that a context's domain may derive its own."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Command(BaseModel):
    """What every step of a saga is told; `saga_id` is the name of the execution."""

    model_config = ConfigDict(extra="ignore")

    saga_id: str
    tenant_id: UUID
    trace_id: str | None = None
