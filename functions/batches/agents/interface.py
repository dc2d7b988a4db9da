"""What a diagnosis is made of, and how those who wait can watch it being made."""

from typing import Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from batches.analysis.statistics import BatchStatistics, ParsedFile


class Case(BaseModel):
    """One batch to be judged: features only, never raw logs (V-08)."""

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    batch_id: UUID
    files: list[ParsedFile]
    statistics: BatchStatistics


class Watcher(Protocol):
    """Whoever looks on while the agents work; what it does may fail without harm to the work.

    After a crash the run goes on behind its last finished node, so a watcher may hear of one twice.
    Nodes that work side by side tell it from threads of their own.
    """

    def entered(self, node: str) -> None:
        """Hear that a node begins."""

    def said(self, node: str, text: str) -> None:
        """Hear the next piece of what a node's model writes."""

    def finished(self, node: str, summary: str) -> None:
        """Hear that a node has ended, and in one sentence with what."""
