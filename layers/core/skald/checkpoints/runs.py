"""Runs of a graph that resume after a crash (G-04)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from skald.checkpoints.checkpointer import Checkpointer
from skald.checkpoints.errors import ThreadBusy
from skald.checkpoints.tracing import traced_nodes
from skald.errors import Abandoned
from skald.telemetry import logger

type RunHeartbeat = Callable[[], bool | None]
"""Says that the run is alive; returns False when the run is not needed any more."""
HEARTBEAT_TIMEOUT = 60.0


def run(
    graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any],
    start: Any,
    *,
    thread_id: str,
    checkpointer: Checkpointer,
    heartbeat: RunHeartbeat | None = None,
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    context: Any = None,
) -> dict[str, Any]:
    """Run the graph to its end and return its state; `thread_id` is the execution's id (G-03).

    Resumes from the newest valid checkpoint and repeats no finished node. Without a checkpoint it
    starts from the beginning; if the run had ended, it returns the state at once. `heartbeat` is
    called before every step and at least every third of `heartbeat_timeout` seconds. Every node is
    a span of the current trace.

    Raises `ThreadBusy` while another worker runs it, `Abandoned` when the caller no longer waits,
    and `NeedsManualIntervention` when checkpoints cannot be saved.
    """
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    nodes = traced_nodes(compiled, tenant_id=checkpointer.tenant_id, thread_id=thread_id)
    saved = compiled.copy({"checkpointer": checkpointer, "nodes": nodes})
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
    with checkpointer.writing(thread_id):
        before = saved.get_state(config)
        is_new = before.created_at is None
        # Not `next`, which omits nodes that have written although their step may not have ended.
        if not is_new and not before.tasks:
            return dict(before.values)
        with _alive(thread_id, checkpointer, heartbeat, heartbeat_timeout) as check:
            logger.info("run begins" if is_new else "run resumes", extra={"thread_id": thread_id})
            check()
            states = saved.stream(
                start if is_new else None,
                config,
                context=context,
                stream_mode="values",
                durability="sync",
            )
            return _last_state(states, check)


def _last_state(states: Iterator[Any], check: Callable[[], None]) -> dict[str, Any]:
    """Run all steps, check after each, and return the final state."""
    last: dict[str, Any] = {}
    for state in states:
        last = state
        check()
    return last


@contextmanager
def _alive(
    thread_id: str, checkpointer: Checkpointer, heartbeat: RunHeartbeat | None, timeout: float
) -> Iterator[Callable[[], None]]:
    """Renew the lease and call the heartbeat while a node works; yields the check between steps."""
    over, is_abandoned = threading.Event(), threading.Event()
    pause = min(timeout, checkpointer.lease_seconds) / 3

    def beat() -> None:
        if heartbeat is not None and heartbeat() is False:
            is_abandoned.set()

    def keep() -> None:
        while not over.wait(pause):
            try:
                checkpointer.renew(thread_id)
                beat()
            except ThreadBusy:
                return  # the next save raises it
            except Exception:
                logger.exception("a heartbeat failed")

    def check() -> None:
        beat()
        if is_abandoned.is_set():
            raise Abandoned(f"no caller waits for thread {thread_id} any more")

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield check
    finally:
        over.set()
        keeper.join()
