"""The graph of a diagnosis; log experts and retrieval run in parallel.

    supervisor ─┬─ log expert, per format ───┬─ diagnosis expert ─┬─ (≥ 0.7) ──────── conclusion
                └─ retrieval expert ─────────┘                    └─ deep retrieval ─ second look ┘

A batch without errors and warnings goes straight to the conclusion. This module needs the agents
layer, because it imports LangGraph.
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
from batches.agents.interface import Case, Watcher
from batches.agents.offline import CaseFacts, LogFacts
from batches.agents.shapes import Hit, LogReport, OpenQuestion, Verdict
from batches.agents.shares import shares
from batches.agents.turns import Turn, turn
from batches.agents.verdict_review import VerdictReview, certainty
from batches.analysis.findings import SURE, Diagnosis, KnowledgeSource, ReasoningStep
from batches.wording import counted
from skald.models import Desk
from skald.postgres import Database

TYPES = (Diagnosis, Hit, LogReport, OpenQuestion, ReasoningStep, Verdict)
"""The models that the state contains; the checkpointer must know them."""
SOURCES_NAMED = 8


class State(TypedDict, total=False):
    """What the agents have found so far.

    The case is not part of the state: a run that resumes reads it again.
    """

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
class RunContext:
    """What every node of a run shares: the case, the models, the database and the watcher."""

    case: Case
    desk: Desk
    database: Database
    watcher: Watcher | None = None

    @cached_property
    def review(self) -> VerdictReview:
        return VerdictReview(self.case)

    def turn(self, node: str) -> AbstractContextManager[Turn]:
        return turn(node, self.case, self.desk, self.watcher)


def build() -> StateGraph[State, RunContext, State, State]:
    """Return the graph; it runs with a `RunContext` as its context."""
    graph = StateGraph(State, context_schema=RunContext)
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
    graph.add_conditional_edges(
        "diagnosis_expert", _after_diagnosis, ["deep_retrieval", "conclusion"]
    )
    graph.add_edge("deep_retrieval", "second_look")
    graph.add_edge("second_look", "conclusion")
    graph.add_edge("conclusion", END)
    return graph


def supervisor(state: State, runtime: Runtime[RunContext]) -> State:  # noqa: ARG001 (LangGraph passes it)
    """Assign the files to log experts; a batch without errors and warnings needs none."""
    context = runtime.context
    with context.turn("supervisor") as turn:
        share = list(shares(context.case.files))
        experts = ", ".join(share)
        turn.summary = f"Log experts for {experts}." if share else "No trouble: no expert is asked."
    return {"shares": share, "path": [turn.step]}


def _experts(state: State) -> list[Send | str]:
    experts = [Send("log_expert", {"shares": [share]}) for share in state["shares"]]
    return [*experts, "retrieval_expert"] if experts else ["conclusion"]


def log_expert(state: State, runtime: Runtime[RunContext]) -> State:
    """Report what the logs of one format show; the state holds exactly one share."""
    context, (share,) = runtime.context, state["shares"]
    with context.turn(f"log_expert:{share}") as turn:
        files = shares(context.case.files)[share]
        report = turn.ask(LogReport, prompts.ask_log_expert(files, share, LogFacts(files)))
        turn.summary = report.summary
    return {"reports": [report], "notes": turn.notes, "path": [turn.step]}


def retrieval_expert(state: State, runtime: Runtime[RunContext]) -> State:  # noqa: ARG001 (as above)
    """Search the knowledge base for the batch's codes; runs in parallel to the log experts."""
    context = runtime.context
    with context.turn("retrieval_expert") as turn:
        with context.database.transaction(context.case.tenant_id) as tx:
            hits = retrieval.find_by_codes(tx, context.case)
        found = counted(len(hits), "entry", "entries")
        turn.summary = f"{found} of the knowledge base on the most frequent codes."
    return {"hits": hits, "path": [turn.step]}


def diagnosis_expert(state: State, runtime: Runtime[RunContext]) -> State:
    """Ask for a verdict on the reports, the findings and the knowledge; the rules rate it."""
    context = runtime.context
    with context.turn("diagnosis_expert") as turn:
        by_rules = context.review.judge()
        question = prompts.ask_diagnosis_expert(
            context.case, state["reports"], by_rules, state["hits"], CaseFacts(by_rules)
        )
        verdict = turn.ask(Verdict, question)
        sure = certainty(context.review.judge(verdict), context.case.statistics.errors)
        turn.summary = f"{verdict.summary} Certainty {sure:.0%}."
    return {"verdict": verdict, "certainty": sure, "notes": turn.notes, "path": [turn.step]}


def _after_diagnosis(state: State) -> str:
    return "conclusion" if state["certainty"] >= SURE else "deep_retrieval"


def deep_retrieval(state: State, runtime: Runtime[RunContext]) -> State:
    """Search the knowledge base for the questions that the first verdict leaves open."""
    context = runtime.context
    with context.turn("deep_retrieval") as turn:
        first = context.review.judge(state["verdict"])
        questions = retrieval.open_questions(context.case, first)
        with context.database.transaction(context.case.tenant_id) as tx:
            hits = retrieval.find_by_questions(tx, context.case, questions)
        found = counted(len(hits), "entry", "entries")
        turn.summary = f"{counted(len(questions), 'open question')}, {found} on them."
    return {"questions": questions, "hits": hits, "path": [turn.step]}


def second_look(state: State, runtime: Runtime[RunContext]) -> State:
    """Ask for a second verdict, with the entries found for the open questions."""
    context = runtime.context
    with context.turn("second_look") as turn:
        first, questions = context.review.judge(state["verdict"]), state["questions"]
        hits = [hit for hit in state["hits"] if hit.question]
        facts = CaseFacts(context.review.judge(), questions, hits)
        verdict = turn.ask(Verdict, prompts.ask_again(context.case, first, questions, hits, facts))
        turn.summary = verdict.summary
    return {"verdict": verdict, "notes": turn.notes, "path": [turn.step]}


def conclusion(state: State, runtime: Runtime[RunContext]) -> State:
    """Build the diagnosis from the last verdict by the rules, and list its sources."""
    context = runtime.context
    with context.turn("conclusion") as turn:
        judged = context.review.judge(state.get("verdict"))
        way = "slow" if state.get("questions") is not None else "fast"
        turn.summary = f"By the {way} path: {judged.summary}"
    diagnosis = judged.model_copy(
        update={
            "method": f"agents, {context.desk.model.name}",
            "unknowns": [*judged.unknowns, *state.get("notes", [])],
            "path": [*state["path"], turn.step],
            "sources": _sources(judged, state.get("hits", [])),
        }
    )
    return {"diagnosis": diagnosis}


def _sources(diagnosis: Diagnosis, hits: Sequence[Hit]) -> list[KnowledgeSource]:
    """Return the entries about the rules and codes of the findings, each entry once."""
    rules = {finding.rule for finding in diagnosis.findings}
    codes = {code for finding in diagnosis.findings for code in finding.error_codes}
    cited = {
        (hit.source.kind, hit.source.title): hit.source
        for hit in hits
        if hit.subject in rules or codes & set(hit.source.error_codes)
    }
    return [*cited.values()][:SOURCES_NAMED]
