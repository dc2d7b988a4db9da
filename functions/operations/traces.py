"""HTTP routes about a tenant's work: traces, event chains, progress, metrics."""

from typing import Annotated, Any
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path

from skald.entrypoints.http import Api, Caller, Listed, Tx
from skald.errors import NotFound
from skald.listing import Page, Resource
from skald.postgres import database
from skald.saga.progress import Progress, WorkflowProgress
from skald.traces.chain import Chain, find_chain
from skald.traces.prometheus import exposition
from skald.traces.reading import StoredSpan, Trace, find_trace
from skald.valkey import valkey

_SPANS = Resource(
    StoredSpan,
    ("skald", "trace_spans"),
    key="span_id",
    sort="-start_time",
    sortable=["start_time", "duration_ms", "name"],
    filterable=["trace_id", "kind", "name", "status", "start_time", "duration_ms"],
)

TraceId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The id of the trace.")]
EventId = Annotated[UUID, Path(description="The id of any event in the chain.")]
WorkflowId = Annotated[str, Path(max_length=200, description="The id of the workflow.")]

api = Api()
handler = api.handler


@api.route("GET", "/traces")
def list_spans(query: Listed, tx: Tx) -> Page[StoredSpan | dict[str, Any]]:
    """List spans, newest first. `filter=duration_ms:gt:500` returns the slow ones."""
    return _SPANS.page(tx, query)


@api.route("GET", "/traces/<trace_id>")
def get_trace(trace_id: TraceId, tx: Tx) -> Trace:
    """Get all spans of a trace as a tree, from its root."""
    return _found(find_trace(tx, trace_id))


@api.route("GET", "/events/<event_id>/chain")
def get_chain(event_id: EventId, tx: Tx) -> Chain:
    """Get the events of a business process, causes first. Slow links are marked."""
    return _found(find_chain(tx, event_id))


@api.route("GET", "/workflows/<workflow_id>/progress")
def get_progress(workflow_id: WorkflowId, caller: Caller) -> Progress:
    """Get the stage and the percentage that a workflow has reached."""
    found = WorkflowProgress(valkey()).find(database(), caller.tenant_id, workflow_id)
    return _found(found)


@api.route("GET", "/metrics", media_type="text/plain")
def get_metrics(tx: Tx) -> Response[str]:
    """Get the figures of the tenant in the text format of Prometheus."""
    return Response(status_code=200, content_type="text/plain; version=0.0.4", body=exposition(tx))


def _found[T](thing: T | None) -> T:
    if thing is None:
        raise NotFound("no such trace, event or workflow")
    return thing
