"""The agents that diagnose a batch: what they are asked, and who watches them (V-08)."""

from batches.agents.interface import Case, Watcher
from batches.agents.investigation import investigate

__all__ = ["Case", "Watcher", "investigate"]
