"""The graph of a diagnosis: supervisor, log experts beside retrieval, diagnosis, second look.

    supervisor ─┬─ log expert, one a format ─┬─ diagnosis expert ─┬─ (≥ 0.7) ──────── conclusion
                └─ retrieval expert ─────────┘                    └─ deep retrieval ─ second look ┘

A batch without any trouble goes straight to its conclusion. Needs the agents layer, for LangGraph.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from batches.agents import prompts, retrieval
from batches.agents.hearing import Hearing, certainty
from batches.agents.interface import Case, Watcher
from batches.agents.offline import CaseFacts, LogFacts
from batches.agents.shapes import Hit, LogReport, OpenQuestion, Verdict
from batches.agents.shares import shares
from batches.agents.turns import Turn, turn
from batches.analysis.findings import SURE, Diagnosis, KnowledgeSource, ReasoningStep
from batches.wording import counted
from skald.models import Desk
from skald.postgres import Database

TYPES = (Diagnosis, Hit, LogReport, OpenQuestion, ReasoningStep, Verdict)
"""What stands in the state beside plain data."""
SOURCES_NAMED = 8


class State(TypedDict, total=False):
    """What the agents have found out: the case itself is read again, not kept."""

    shares: list[str]
    reports: Annotated[list[LogReport], operator.add]
    hits: Annotated[list[Hit], operator.add]
    questions: list[OpenQuestion]
    verdict: Verdict
    certainty: float
    notes: Annotated[list[str], operator.add]
    path: Annotated[list[ReasoningStep], operator.add]
    diagnosis: Diagnosis


@dataclass(frozen=True)
class Room:
    """Where the agents meet: the case, those who answer, and who looks on."""

    case: Case
    desk: Desk
    database: Database
    watcher: Watcher | None = None

    @cached_property
    def hearing(self) -> Hearing:
        return Hearing(self.case)

    def turn(self, node: str) -> AbstractContextManager[Turn]:
        return turn(node, self.case, self.desk, self.watcher)


def build() -> StateGraph[State, Room, State, State]:
    """Return the graph, to be run with a `Room` as its context."""
    graph = StateGraph(State, context_schema=Room)
    graph.add_node(supervisor)
    graph.add_node(log_expert)
    graph.add_node(retrieval_expert)
    graph.add_node(diagnosis_expert)
    graph.add_node(deep_retrieval)
    graph.add_node(second_look)
    graph.add_node(conclusion)
    graph.add_edge(START, "supervisor")
    graph.add_conditional_edges(
        "supervisor", _experts, ["log_expert", "retrieval_expert", "conclusion"]
    )
    graph.add_edge("log_expert", "diagnosis_expert")
    graph.add_edge("retrieval_expert", "diagnosis_expert")
    graph.add_conditional_edges("diagnosis_expert", _way, ["deep_retrieval", "conclusion"])
    graph.add_edge("deep_retrieval", "second_look")
    graph.add_edge("second_look", "conclusion")
    graph.add_edge("conclusion", END)
    return graph


def supervisor(state: State, runtime: Runtime[Room]) -> State:  # noqa: ARG001 (LangGraph passes it)
    """Share the files out to experts; a batch without trouble needs none."""
    room = runtime.context
    with room.turn("supervisor") as turn:
        share = list(shares(room.case.files))
        experts = ", ".join(share)
        turn.summary = f"Log experts for {experts}." if share else "No trouble: nobody is asked."
    return {"shares": share, "path": [turn.step]}


def _experts(state: State) -> list[Send | str]:
    experts = [Send("log_expert", {"shares": [share]}) for share in state["shares"]]
    return [*experts, "retrieval_expert"] if experts else ["conclusion"]


def log_expert(state: State, runtime: Runtime[Room]) -> State:
    """Say what the logs of one format show: of the one share this expert is sent."""
    room, (share,) = runtime.context, state["shares"]
    with room.turn(f"log_expert:{share}") as turn:
        files = shares(room.case.files)[share]
        report = turn.ask(LogReport, prompts.ask_log_expert(files, share, LogFacts(files)))
        turn.summary = report.summary
    return {"reports": [report], "notes": turn.notes, "path": [turn.step]}


def retrieval_expert(state: State, runtime: Runtime[Room]) -> State:  # noqa: ARG001 (as above)
    """Look up the batch's codes, beside the log experts."""
    room = runtime.context
    with room.turn("retrieval_expert") as turn:
        with room.database.transaction(room.case.tenant_id) as tx:
            hits = retrieval.find_by_codes(tx, room.case)
        found = counted(len(hits), "entry", "entries")
        turn.summary = f"{found} of the knowledge base on the most frequent codes."
    return {"hits": hits, "path": [turn.step]}


def diagnosis_expert(state: State, runtime: Runtime[Room]) -> State:
    """Judge what experts, rules and knowledge base say; the rules weigh it."""
    room = runtime.context
    with room.turn("diagnosis_expert") as turn:
        by_rules = room.hearing.judge()
        question = prompts.ask_diagnosis_expert(
            room.case, state["reports"], by_rules, state["hits"], CaseFacts(by_rules)
        )
        verdict = turn.ask(Verdict, question)
        sure = certainty(room.hearing.judge(verdict), room.case.statistics.errors)
        turn.summary = f"{verdict.summary} Certainty {sure:.0%}."
    return {"verdict": verdict, "certainty": sure, "notes": turn.notes, "path": [turn.step]}


def _way(state: State) -> str:
    return "conclusion" if state["certainty"] >= SURE else "deep_retrieval"


def deep_retrieval(state: State, runtime: Runtime[Room]) -> State:
    """Search the knowledge base for whatever the first look left open."""
    room = runtime.context
    with room.turn("deep_retrieval") as turn:
        first = room.hearing.judge(state["verdict"])
        questions = retrieval.open_questions(room.case, first)
        with room.database.transaction(room.case.tenant_id) as tx:
            hits = retrieval.find_by_questions(tx, room.case, questions)
        found = counted(len(hits), "entry", "entries")
        turn.summary = f"{counted(len(questions), 'open question')}, {found} on them."
    return {"questions": questions, "hits": hits, "path": [turn.step]}


def second_look(state: State, runtime: Runtime[Room]) -> State:
    """Judge again, with what the knowledge base has on the open questions."""
    room = runtime.context
    with room.turn("second_look") as turn:
        first, questions = room.hearing.judge(state["verdict"]), state["questions"]
        hits = [hit for hit in state["hits"] if hit.question]
        facts = CaseFacts(room.hearing.judge(), questions, hits)
        verdict = turn.ask(Verdict, prompts.ask_again(room.case, first, questions, hits, facts))
        turn.summary = verdict.summary
    return {"verdict": verdict, "notes": turn.notes, "path": [turn.step]}


def conclusion(state: State, runtime: Runtime[Room]) -> State:
    """Let the rules conclude from the last verdict, and name what it leans on."""
    room = runtime.context
    with room.turn("conclusion") as turn:
        judged = room.hearing.judge(state.get("verdict"))
        way = "slow" if state.get("questions") is not None else "fast"
        turn.summary = f"By the {way} path: {judged.summary}"
    diagnosis = judged.model_copy(
        update={
            "method": f"agents, {room.desk.model.name}",
            "unknowns": [*judged.unknowns, *state.get("notes", [])],
            "path": [*state["path"], turn.step],
            "sources": _sources(judged, state.get("hits", [])),
        }
    )
    return {"diagnosis": diagnosis}


def _sources(diagnosis: Diagnosis, hits: Sequence[Hit]) -> list[KnowledgeSource]:
    """Return the entries on what was found, each once."""
    rules = {finding.rule for finding in diagnosis.findings}
    codes = {code for finding in diagnosis.findings for code in finding.error_codes}
    leant_on = {
        (hit.source.kind, hit.source.title): hit.source
        for hit in hits
        if hit.subject in rules or codes & set(hit.source.error_codes)
    }
    return [*leant_on.values()][:SOURCES_NAMED]
