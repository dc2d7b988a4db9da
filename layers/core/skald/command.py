"""The command of a step of a saga. It does no I/O, so a context's domain can derive its own."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Command(BaseModel, defer_build=True):
    """The input of every step of a saga; `saga_id` is the name of the execution."""

    model_config = ConfigDict(extra="ignore")

    saga_id: str
    tenant_id: UUID
    trace_id: str | None = None
