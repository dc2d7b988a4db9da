"""G-09: one trace from the step to the nodes of its graph and their model calls."""

from contextlib import closing
from dataclasses import asdict
from typing import Any
from uuid import UUID

import pytest
import redis
from langgraph.graph import END, START, StateGraph
from tests.integration.checkpoints.graphs import Walk
from tests.integration.model_endpoint import Reply, always, model_endpoint

from skald.checkpoints import Checkpointer, run
from skald.entrypoints.entry import entry
from skald.models import Answer, Desk, Question
from skald.models.interface import OnText
from skald.models.openai_compatible import OpenAiCompatible
from skald.postgres import Database
from skald.telemetry import Kind
from skald.telemetry.trace import new_context
from skald.traces.reading import Node, find_trace


@pytest.fixture(autouse=True)
def _environment(environment: None) -> None:
    """The environment in which a function stores its spans."""


class Expert:
    """An expert that needs no network."""

    name = "expert"
    is_offline = True

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        if on_text is not None:
            on_text(question.prompt)
        return Answer(question.prompt, self.name, 3, 1)


def asking(desk: Desk, tenant: UUID) -> StateGraph[Walk, Any, Walk, Walk]:
    """Return plan → (left, right). The branches run side by side, each with its question."""

    def ask(name: str) -> Any:
        def work(_: Walk) -> dict[str, Any]:
            answer = desk.ask(Question(name, "Be brief.", name), tenant_id=tenant, subject="s")
            return {"steps": [answer.text]}

        return work

    graph = StateGraph(Walk)
    graph.add_node("plan", lambda _: {"steps": ["plan"]})
    for name in ("left", "right"):
        graph.add_node(name, ask(name))
        graph.add_edge("plan", name)
        graph.add_edge(name, END)
    graph.add_edge(START, "plan")
    return graph


def traced(
    graph: StateGraph[Walk, Any, Walk, Walk], database: Database, tenant: UUID
) -> list[Node]:
    """Run the graph in a step and return the spans of its trace, as `GET /traces/{id}` does."""
    with entry(Kind.STEP, "diagnose", new_context(), tenant_id=tenant) as step:
        run(
            graph,
            {"steps": [], "document": ""},
            thread_id="t",
            checkpointer=Checkpointer(database, tenant),
        )
    with database.transaction(tenant) as tx:
        found = find_trace(tx, step.trace_id)
    assert found is not None
    return found.spans


def tree(spans: list[Node]) -> set[tuple[str | None, str, str]]:
    """Return parent, kind and name of each span."""
    names = {span.span_id: span.name for span in spans}
    return {(names.get(span.parent_span_id or ""), span.kind, span.name) for span in spans}


def test_nodes_and_their_models_stand_under_the_step(database: Database, tenant: UUID) -> None:
    """G-09: also branches, which run in their own threads."""
    desk = Desk(Expert(), database, redis.Redis())
    spans = traced(asking(desk, tenant), database, tenant)
    assert tree(spans) == {
        (None, "step", "diagnose"),
        ("diagnose", "agent_node", "plan"),
        ("diagnose", "agent_node", "left"),
        ("diagnose", "agent_node", "right"),
        ("left", "model", "expert"),
        ("right", "model", "expert"),
    }
    nodes = [span for span in spans if span.kind == Kind.AGENT_NODE]
    assert {span.attributes["thread_id"] for span in nodes} == {"t"}
    assert {span.attributes["role"] for span in spans if span.kind == Kind.MODEL} == {
        "left",
        "right",
    }


def test_a_models_span_tells_its_tokens_and_a_record_has_none(
    database: Database, tenant: UUID, valkey: redis.Redis
) -> None:
    """G-09, V-10: a call has tokens; an answer from a record is no call."""
    valkey.flushall()
    question = Question("judge", "Be brief.", "E2107 forty times")
    with (
        model_endpoint(always(Reply("a sag"))) as endpoint,
        closing(OpenAiCompatible("fake", endpoint.url)) as model,
    ):
        desk = Desk(model, database, valkey)
        with entry(Kind.STEP, "judge", new_context(), tenant_id=tenant) as step:
            answers = [desk.ask(question, tenant_id=tenant, subject="s") for _ in range(2)]
    with database.transaction(tenant) as tx:
        found = find_trace(tx, step.trace_id)
    assert found is not None
    (call,) = [span for span in found.spans if span.kind == Kind.MODEL]
    told = {key: asdict(answers[0])[key] for key in ("input_tokens", "output_tokens")}
    assert call.attributes == {"role": "judge", **told}
    assert told["input_tokens"] > 0


def test_a_node_that_fails_is_an_error_in_the_trace(database: Database, tenant: UUID) -> None:
    """G-09: the node that failed has the error, below the error of the step."""
    graph = StateGraph(Walk)
    graph.add_node("broken", lambda _: 1 // 0)
    graph.add_edge(START, "broken")
    with (
        entry(Kind.STEP, "diagnose", new_context(), tenant_id=tenant) as step,
        pytest.raises(ZeroDivisionError),
    ):
        run(graph, {}, thread_id="t", checkpointer=Checkpointer(database, tenant))
    with database.transaction(tenant) as tx:
        found = find_trace(tx, step.trace_id)
    assert found is not None
    node = found.spans[-1]
    assert (node.name, node.status) == ("broken", "error")
    assert node.attributes["error.type"] == "ZeroDivisionError"


def test_spans_of_nodes_cost_no_commit_each(
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-09: the spans are stored at the end of the invocation."""
    saved: list[int] = []
    monkeypatch.setattr("skald.traces.store.save", lambda spans: saved.append(len(spans)))
    with entry(Kind.STEP, "diagnose", new_context(), tenant_id=tenant):
        run(
            asking(Desk(Expert(), database, redis.Redis()), tenant),
            {"steps": [], "document": ""},
            thread_id="t",
            checkpointer=Checkpointer(database, tenant),
        )
        assert saved == []
    assert saved == [6]
