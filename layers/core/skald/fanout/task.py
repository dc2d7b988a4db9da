"""One task of a fan-out, as its message names it."""

from uuid import UUID

from pydantic import BaseModel


class Task(BaseModel, defer_build=True):
    """A task for a worker; `saga_id` and `task_id` are those with which it was opened."""

    tenant_id: UUID
    saga_id: str
    task_id: str


class GivenUp(Exception):
    """A task will never have a result; the text of the exception is the reason."""
