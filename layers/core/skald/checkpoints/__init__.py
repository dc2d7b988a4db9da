"""Durable runs of agent graphs; needs the agents layer, for LangGraph."""

from skald.checkpoints.checkpointer import Checkpointer
from skald.checkpoints.errors import (
    CorruptCheckpoint,
    NeedsManualIntervention,
    NotSerializable,
    ThreadBusy,
)
from skald.checkpoints.runs import run
from skald.errors import Abandoned

__all__ = [
    "Abandoned",
    "Checkpointer",
    "CorruptCheckpoint",
    "NeedsManualIntervention",
    "NotSerializable",
    "ThreadBusy",
    "run",
]
