"""One task of a fan-out, as its message names it."""

from uuid import UUID

from pydantic import BaseModel


class Task(BaseModel):
    """A task that a worker is given; `saga_id` and `task_id` are those it was opened with."""

    tenant_id: UUID
    saga_id: str
    task_id: str


class GivenUp(Exception):
    """A task has no result and never will; the text of the exception is the reason."""
