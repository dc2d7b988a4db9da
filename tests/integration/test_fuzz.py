"""Errors: every route of the OpenAPI document gets described and undescribed requests."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from psycopg import Connection
from psycopg.rows import DictRow
from schemathesis import Case
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from tests.integration.existing.world import Existing, World, existing
from tests.integration.support import Handler, call, proxy_event
from tests.unit.template import template
from werkzeug import Request, Response

from skald.postgres import Database

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


def _named(method: str, path: str) -> str | None:
    """Return the name of the handler that API Gateway calls."""
    for allowed, pattern, name in ROUTES:
        if allowed in (method, "ANY") and pattern.fullmatch(path):
            return name
    return None


def _handler(method: str, path: str) -> Handler | None:
    if (name := _named(method, path)) is None:
        return None
    module, _, function = name.rpartition(".")
    handler: Handler = getattr(import_module(module), function)
    return handler


def _context(case: Case[Any]) -> str:
    """Return the context that serves a case's route."""
    return (_named(case.method, case.path) or "").partition(".")[0]


@Request.application
def gateway(request: Request) -> Response:
    """API Gateway: pass a request to the function that the template names."""
    handler = _handler(request.method, request.path)
    if handler is None:
        return Response('{"message":"Missing Authentication Token"}', 403)
    quoted = urlsplit(request.environ["REQUEST_URI"]).path  # the path as API Gateway passes it
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
schema.config.generation.update(allow_extra_parameters=False)  # extra parameters are ignored
schema.config.phases.coverage.unexpected_methods = set()  # API Gateway knows the methods


# A tenant with something under every kind of id ---------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _no_limits() -> Iterator[None]:
    """No rate limit applies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATE_LIMIT_PER_KEY", "0")
        patch.setenv("RATE_LIMIT_PER_IP", "0")
        yield


@pytest.fixture
def existing_of(
    aws: None, api_key: str, database: Database, tenant: UUID, admin: Connection[DictRow]
) -> Existing:
    """Ids of existing things, by their context. Each context creates its things once."""
    world = World(tenant, api_key, database, admin)
    return cache(lambda context: existing(context, world))


# The document and its routes ----------------------------------------------------------------------


@schema.parametrize()
@BOUNDED
def test_every_route_answers_as_it_is_described(
    case: Case[Any], api_key: str, existing_of: Existing
) -> None:
    """Errors: no request causes a 5xx or an answer that the document does not describe."""
    if any(parameter.name == "wait" for parameter in case.operation.query):
        case.query["wait"] = 0
    checks = [*CONFORMANCE, negative_data_rejection]
    case.call_and_validate(headers={"X-Api-Key": api_key}, checks=checks)
    for ids in existing_of(_context(case)) if case.path_parameters else ():
        case.path_parameters = {name: ids[name] for name in case.path_parameters}
        case.call_and_validate(headers={"X-Api-Key": api_key}, checks=CONFORMANCE)


@schema.exclude(path=["/health", "/openapi.json", "/docs", "/live"]).parametrize()
@BOUNDED
def test_no_route_answers_a_wrong_key(case: Case[Any], database: Database) -> None:
    """P-07: with a wrong key the answer to any request is 401; the other routes are public."""
    answer = case.call(headers={"X-Api-Key": "skald_wrong"})
    assert answer.status_code == 401, answer.text
