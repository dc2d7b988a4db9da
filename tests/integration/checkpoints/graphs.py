"""A graph that a test runs, also in a process that a node kills: `graphs.py THREAD KILLED_IN`.

Each node writes its name to a file before it returns. POSTGRES_DSN, TENANT and NOTES are in the
environment of the process.
"""

import operator
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, StateGraph

from skald.checkpoints import Checkpointer, run
from skald.postgres import database


class Walk(TypedDict):
    """The state of a walk. Branches append to it side by side."""

    steps: Annotated[list[str], operator.add]
    document: str


def checkpoint(values: dict[str, Any], version: int) -> Checkpoint:
    """Return a checkpoint to save, with all its channels at one version."""
    return empty_checkpoint() | {
        "id": str(uuid6()),
        "channel_values": values,
        "channel_versions": dict.fromkeys(values, version),
    }


NODES = ("plan", "left", "right", "join", "end")


def walk(notes: Path, killed_in: str = "") -> StateGraph[Walk, Any, Walk, Walk]:
    """Return plan → (left, right) → join → end. The node `killed_in` kills the process."""

    def node(name: str) -> Any:
        def work(state: Walk) -> dict[str, Any]:
            if name == killed_in:
                os.kill(os.getpid(), signal.SIGKILL)
            with notes.open("a") as file:
                file.write(f"{name}\n")
            return (
                {"steps": [name], "document": "x" * 2000 + name}
                if name != "right"
                else {"steps": [name]}
            )

        return work

    graph = StateGraph(Walk)
    for name in NODES:
        graph.add_node(name, node(name))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "left")
    graph.add_edge("plan", "right")
    graph.add_edge(["left", "right"], "join")
    graph.add_edge("join", "end")
    graph.add_edge("end", END)
    return graph


if __name__ == "__main__":
    saver = Checkpointer(database(), UUID(os.environ["TENANT"]), lease_seconds=1.0)
    run(
        walk(Path(os.environ["NOTES"]), sys.argv[2]),
        {"steps": [], "document": ""},
        thread_id=sys.argv[1],
        checkpointer=saver,
    )
