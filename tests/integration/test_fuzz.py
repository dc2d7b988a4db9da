"""Every route of the served OpenAPI document is asked what it describes and what it does not."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from schemathesis import Case
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from tests.integration.batches import Fleet
from tests.integration.grading import RUBRIC, GradingClient, path
from tests.integration.knowledge_base import ENTRY, KnowledgeClient
from tests.integration.support import Client, Handler, call, event, proxy_event
from tests.unit.template import template
from werkzeug import Request, Response

from batches import artifacts
from skald.messaging import outbox
from skald.postgres import Database, Transaction
from skald.saga import SagaLog, SagaStatus
from skald.saga.progress import WorkflowProgress
from skald.storage.objects import ARTIFACTS
from skald.valkey import valkey

type Ids = dict[str, Any]

CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=10,
    derandomize=True,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)


# API Gateway --------------------------------------------------------------------------------------


def _routes() -> Iterator[tuple[str, re.Pattern[str], str]]:
    """Yield method, path and handler of every route that the template gives API Gateway."""
    for function in template().functions.values():
        for source in function.get("Events", {}).values():
            if source["Type"] == "Api":
                route = source["Properties"]
                path = re.sub(r"\{proxy\+\}", ".+", route["Path"])
                path = re.sub(r"\{\w+\}", "[^/]+", path)
                yield route["Method"], re.compile(path, re.DOTALL), function["Handler"]


ROUTES = list(_routes())


def _handler(method: str, path: str) -> Handler | None:
    for allowed, pattern, name in ROUTES:
        if allowed in (method, "ANY") and pattern.fullmatch(path):
            module, _, function = name.rpartition(".")
            handler: Handler = getattr(import_module(module), function)
            return handler
    return None


@Request.application
def gateway(request: Request) -> Response:
    """API Gateway: hand a request to the function the template names."""
    handler = _handler(request.method, request.path)
    if handler is None:
        return Response('{"message":"Missing Authentication Token"}', 403)
    quoted = urlsplit(request.environ["REQUEST_URI"]).path  # what API Gateway hands over
    sent = proxy_event(
        request.method,
        f"/{quoted.lstrip('/')}",
        body=request.get_data().decode(errors="replace") or None,
        query=request.args.to_dict(),
        headers=dict(request.headers),
    )
    sent["multiValueQueryStringParameters"] = request.args.to_dict(flat=False) or None
    answer = call(handler, sent)
    return Response(answer.text, answer.status, dict(answer.headers))


schema = schemathesis.openapi.from_wsgi("/openapi.json", gateway)
schema.config.generation.update(allow_extra_parameters=False)  # nobody minds a word too many
schema.config.phases.coverage.unexpected_methods = set()  # API Gateway knows the methods


# A tenant with something under every kind of id ---------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _no_limits() -> Iterator[None]:
    """Nobody asks too often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATE_LIMIT_PER_KEY", "0")
        patch.setenv("RATE_LIMIT_PER_IP", "0")
        yield


@pytest.fixture
def existing(
    api: Client, api_key: str, database: Database, tenant: UUID, admin: Connection[DictRow]
) -> list[Ids]:
    """Ids that exist by the name of the path parameter, for each state a batch can be in."""
    fleet = Fleet(database, tenant)
    file = "a.log"
    batches = [
        _open(api, file),
        fleet.pending(),
        fleet.pending(file),
        fleet.scattering(file),
        fleet.diagnosing(file),
        fleet.completed(file),
        fleet.completed(file, report={"charts": {"faults": "chart.png"}}),
        _cancelled(api),
    ]
    assert GradingClient(api_key)("POST", path(), RUBRIC).status == 201
    assert KnowledgeClient(api_key)("PUT", "/knowledge/error_code/E2107", ENTRY).status == 200
    ARTIFACTS.write(artifacts.page_key(tenant, batches[-2]), b"<p>", "text/html")
    ids = [
        {"batch_id": str(batch_id), "file_id": str(fleet.file_id(batch_id, file))}
        | fleet.do(_told_of, str(batch_id), number)
        | {"exam_id": "networks", "question_id": "1.1", "kind": "error_code"}
        | {"key": _answered(api, number), "trace_id": api("GET", "/batches").headers["x-trace-id"]}
        for number, batch_id in enumerate(batches)
    ]
    admin.execute("update skald.outbox set status = 'failed' where tenant_id = %s", (tenant,))
    return ids


def _open(api: Client, file: str) -> UUID:
    """A batch with a file whose upload has begun."""
    batch_id = api.open_batch()
    assert api("POST", f"/batches/{batch_id}/files", {"name": file, "size": 5}).status == 201
    return UUID(batch_id)


def _cancelled(api: Client) -> UUID:
    batch_id = api.open_batch()
    assert api("POST", f"/batches/{batch_id}/cancel").status == 200
    return UUID(batch_id)


def _answered(api: Client, number: int) -> str:
    """An idempotency key under which an answer is stored."""
    key = f"order-{number}"
    answer = api("POST", "/batches", {"name": "again"}, headers={"Idempotency-Key": key})
    assert answer.status == 201
    return key


def _told_of(tx: Transaction, workflow_id: str, number: int) -> Ids:
    """A saga, its progress, its event, and a dead letter of that."""
    happened = event(tx.tenant_id, number=number, correlation_id=workflow_id)
    log = SagaLog(tx, workflow_id)
    log.begin("fuzz", ["one", "two"], happened)
    if number % 2:
        log.move(SagaStatus.MANUAL_INTERVENTION, SagaStatus.RUNNING)
    WorkflowProgress(valkey()).report(tx, workflow_id, "one", 50, files=number)
    outbox.publish(tx, happened)
    letter = tx.value(
        "insert into skald.dead_letters (tenant_id, event_id, source, envelope, error)"
        " values (%s, %s, 'outbox', %s, 'no such queue') returning dead_letter_id",
        (tx.tenant_id, happened.event_id, Jsonb(happened.model_dump(mode="json"))),
    )
    return {
        "saga_id": workflow_id,
        "workflow_id": workflow_id,
        "event_id": str(happened.event_id),
        "dead_letter_id": letter,
    }


# The document and its routes ----------------------------------------------------------------------


@schema.parametrize()
@BOUNDED
def test_every_route_answers_as_it_is_described(
    case: Case[Any], api_key: str, existing: list[Ids]
) -> None:
    """Errors: no request causes a 5xx or an answer that the document does not describe."""
    if case.path.startswith("/batches/") and case.path.endswith(("/progress", "/stream")):
        case.query["wait"] = 0
    checks = [*CONFORMANCE, negative_data_rejection]
    case.call_and_validate(headers={"X-Api-Key": api_key}, checks=checks)
    for ids in existing if case.path_parameters else ():
        case.path_parameters = {name: ids[name] for name in case.path_parameters}
        case.call_and_validate(headers={"X-Api-Key": api_key}, checks=CONFORMANCE)


@schema.exclude(path=["/health", "/openapi.json", "/docs", "/live"]).parametrize()
@BOUNDED
def test_no_route_answers_a_stranger(case: Case[Any], database: Database) -> None:
    """P-07: whatever is asked with a wrong key, the answer is 401; the rest is public."""
    answer = case.call(headers={"X-Api-Key": "skald_wrong"})
    assert answer.status_code == 401, answer.text
