"""Investigates a case: the graph of agents, run so that a crash repeats nothing (V-08, G-04)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from batches.agents.offline import OfflineExpert
from batches.analysis.findings import Diagnosis
from skald.models import Desk
from skald.postgres import database

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

    from batches.agents.graph import Room, State
    from batches.agents.interface import Case, Watcher
    from skald.checkpoints.runs import Heartbeat


def investigate(
    case: Case,
    *,
    thread_id: str,
    heartbeat: Heartbeat | None = None,
    watcher: Watcher | None = None,
    desk: Desk | None = None,
) -> Diagnosis:
    """Diagnose a case by agents; `thread_id` is the execution's id (G-03).

    Goes on where a run of this thread was broken off; the case is expected to be the same. The
    desk is by default that of the model the settings name. Raises what `skald.checkpoints.run`
    does, and what is temporary about models, Redis and PostgreSQL.
    """
    # Functions without the agents layer import this module too.
    from batches.agents.graph import TYPES, Room
    from skald.checkpoints import Checkpointer, run

    room = Room(case, desk or Desk.chosen(OfflineExpert()), database(), watcher)
    state = run(
        _graph(),
        {},
        thread_id=thread_id,
        checkpointer=Checkpointer(room.database, case.tenant_id, types=TYPES),
        heartbeat=heartbeat,
        context=room,
    )
    return Diagnosis.model_validate(state["diagnosis"])


@cache
def _graph() -> Pregel[State, Room, State, State]:
    """Return the graph, compiled once for this environment."""
    from batches.agents.graph import build

    return build().compile()
