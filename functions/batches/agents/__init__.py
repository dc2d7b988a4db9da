"""The agents that diagnose a batch: their input, their run and its observers (V-08)."""

from batches.agents.interface import Case, Watcher
from batches.agents.investigation import investigate

__all__ = ["Case", "Watcher", "investigate"]
