"""The input of a diagnosis, and the interface of those who watch it run."""

from typing import Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from batches.analysis.statistics import BatchStatistics, ParsedFile


class Case(BaseModel):
    """One batch to diagnose: features only, never raw logs (V-08)."""

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    batch_id: UUID
    files: list[ParsedFile]
    statistics: BatchStatistics


class Watcher(Protocol):
    """Receives the progress of the agents; an exception it raises does not stop them.

    After a crash, the run resumes after its last finished node. So a watcher may receive the same
    event twice. Nodes that run in parallel call it from different threads.
    """

    def entered(self, node: str) -> None:
        """A node begins."""

    def said(self, node: str, text: str) -> None:
        """A node's model has written the next piece of its answer."""

    def finished(self, node: str, summary: str) -> None:
        """A node has ended; `summary` is its result in one sentence."""
