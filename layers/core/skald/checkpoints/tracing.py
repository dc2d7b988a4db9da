"""Spans of nodes, in the trace of their run (G-09)."""

from collections.abc import Mapping
from typing import Any, override
from uuid import UUID

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.pregel import Pregel
from langgraph.pregel._read import DEFAULT_BOUND, PregelNode

from skald.telemetry import Kind, span


def traced_nodes(
    graph: Pregel[Any, Any, Any, Any], *, tenant_id: UUID, thread_id: str
) -> Mapping[str, PregelNode]:
    """Return the graph's nodes, each with a span of its name; a node that only writes has none."""
    return {
        name: node
        if node.bound is DEFAULT_BOUND
        else node.copy({"bound": _Traced(node.bound, name, tenant_id, thread_id)})
        for name, node in graph.nodes.items()
    }


class _Traced(Runnable[Any, Any]):
    """The work of a node within its span. LangGraph passes the context to the node's thread."""

    def __init__(
        self, work: Runnable[Any, Any], name: str, tenant_id: UUID, thread_id: str
    ) -> None:
        self._work = work
        self._name = name
        self._tenant_id = tenant_id
        self._thread_id = thread_id

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **named: Any) -> Any:
        with span(
            Kind.AGENT_NODE, self._name, tenant_id=self._tenant_id, thread_id=self._thread_id
        ):
            return self._work.invoke(input, config, **named)
