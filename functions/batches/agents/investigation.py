"""Runs the graph of agents on a case; a run resumes after a crash (V-08, G-04)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from batches.agents.offline import OfflineExpert
from batches.analysis.findings import Diagnosis
from skald.models import Desk
from skald.postgres import database

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

    from batches.agents.graph import RunContext, State
    from batches.agents.interface import Case, Watcher
    from skald.checkpoints.runs import RunHeartbeat


def investigate(
    case: Case,
    *,
    thread_id: str,
    heartbeat: RunHeartbeat | None = None,
    watcher: Watcher | None = None,
    desk: Desk | None = None,
) -> Diagnosis:
    """Diagnose a case by agents; `thread_id` is the execution's id (G-03).

    If an earlier run of this thread was interrupted, this run resumes it; the case must be the
    same. The default desk is the one of the model that the settings name. Raises the errors of
    `skald.checkpoints.run`, and temporary errors of models, Redis and PostgreSQL.
    """
    # Functions without the agents layer import this module too, so LangGraph is imported here.
    from batches.agents.graph import TYPES, RunContext
    from skald.checkpoints import Checkpointer, run

    context = RunContext(case, desk or Desk.chosen(OfflineExpert()), database(), watcher)
    state = run(
        _graph(),
        {},
        thread_id=thread_id,
        checkpointer=Checkpointer(context.database, case.tenant_id, types=TYPES),
        heartbeat=heartbeat,
        context=context,
    )
    return Diagnosis.model_validate(state["diagnosis"])


@cache
def _graph() -> Pregel[State, RunContext, State, State]:
    """Return the compiled graph; each execution environment compiles it once."""
    from batches.agents.graph import build

    return build().compile()
