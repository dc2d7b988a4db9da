"""OpenAPI documents: of the routes of one context, and of all contexts together.

Import this on first use: only the request for the document needs it, and Powertools' models of
OpenAPI take forty milliseconds to load.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler.openapi.models import APIKey, APIKeyIn, Server
from pydantic import BaseModel, Field

from skald.config import settings
from skald.entrypoints.http import access, refusals
from skald.idempotency.http import KEY_HEADERS, MAX_KEY_LENGTH, REPLAYED_HEADER, KeySource
from skald.listing import ListQuery

if TYPE_CHECKING:
    from skald.entrypoints.http.api import Api, Route

_MODEL = "#/components/schemas/{model}"

_WITHOUT_KEY = {
    "header": "Without a key, every request does the work.",
    "automatic": "Without a key, requests of one user with the same method, path and body "
    "are the same request.",
}


class ProblemDocument(BaseModel):
    """Why a request failed, as RFC 9457 problem details."""

    type: str = Field(description="A URN that ends with the code.")
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request, for people.")
    code: str = Field(
        description="The kind of problem, for programs. It never changes its meaning."
    )
    trace_id: str = Field(description="The trace of the request. Name it when you ask for help.")


def document(api: Api, title: str, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the routes of one context."""
    # Relative to the document's own address: behind a stage, every address begins with its path.
    text = api.resolver.get_openapi_json_schema(
        title=title,
        version=version,
        servers=[Server(url=".")],
        security_schemes=_security_schemes() if api.authenticated else None,
    )
    described: dict[str, Any] = json.loads(text)
    for route in api.routes:
        _describe(route, described, authenticated=api.authenticated)
    described["components"]["schemas"]["ProblemDocument"] = ProblemDocument.model_json_schema()
    return described


def merged(apis: Mapping[str, Api], title: str, version: str) -> dict[str, Any]:
    """Return one document of the routes of all contexts; `apis` are by name of the context.

    If two contexts have different models with the same name, the later model gets the name of its
    context as a prefix.
    """
    whole: dict[str, Any] = {"components": {"schemas": {}}}
    for context, api in apis.items():
        part = document(api, title, version)
        _merge(whole, _renamed(part, context, whole["components"]["schemas"]))
    return whole


def _renamed(document: dict[str, Any], context: str, taken: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document without models whose names other models have taken."""
    models = document["components"]["schemas"]
    clashing = [name for name, model in models.items() if taken.get(name, model) != model]
    for name in clashing:
        models[f"{context}.{name}"] = models.pop(name)
    text = json.dumps(document)
    for name in clashing:
        text = text.replace(f'/schemas/{name}"', f'/schemas/{context}.{name}"')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def _merge(into: dict[str, Any], document: Mapping[str, Any]) -> None:
    for key, value in document.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _security_schemes() -> dict[str, Any]:
    return {
        access.KEY: APIKey(name="X-Api-Key", in_=APIKeyIn.header),
        access.TICKET: APIKey(name="ticket", in_=APIKeyIn.query),
    }


def _describe(route: Route, document: dict[str, Any], *, authenticated: bool) -> None:
    """Add to a route what the resolver does not write: answers, refusals, lists, keys."""
    path = route.path.replace("<", "{").replace(">", "}")
    operation = document["paths"][path][route.method.lower()]
    operation["responses"] = _successes(route, operation["responses"][str(route.status)]) | {
        str(code): _refusal(code) for code in _refusals(route, authenticated=authenticated)
    }
    _describe_list(operation)
    if route.idempotent:
        _describe_keys(operation, route.status, route.idempotent)


def _successes(route: Route, written: dict[str, Any]) -> dict[str, Any]:
    content = {route.media_type: {}} if route.media_type else written["content"]
    success = {"description": HTTPStatus(route.status).phrase, "content": content}
    empty = {"description": HTTPStatus.NO_CONTENT.phrase, "content": {}}
    return {str(route.status): success} | ({"204": empty} if route.may_be_empty else {})


def _refusals(route: Route, *, authenticated: bool) -> list[int]:
    codes = {422, 503, *route.problems}
    codes |= {401, 429} if authenticated else set()
    codes |= {404} if "<" in route.path else set()
    codes |= {400} if route.method in ("POST", "PUT", "PATCH") else set()
    codes |= {409} if route.idempotent else set()
    return sorted(codes)


def _refusal(code: int) -> dict[str, Any]:
    schema = {"$ref": _MODEL.format(model=ProblemDocument.__name__)}
    content = {refusals.MEDIA_TYPE: {"schema": schema}}
    return {"description": HTTPStatus(code).phrase, "content": content}


def _describe_list(operation: dict[str, Any]) -> None:
    """Add the limits of list parameters; the resolver writes only their types."""
    fields = ListQuery.model_json_schema(ref_template=_MODEL)["properties"]
    for parameter in operation.get("parameters", []):
        if parameter["name"] in fields and "title" not in parameter["schema"]:
            parameter["schema"] = fields[parameter["name"]]


def _describe_keys(operation: dict[str, Any], status: int, source: KeySource) -> None:
    """Add the headers of an idempotency key, and the answer to a repeated request."""
    operation.setdefault("parameters", []).extend(_key_parameters(source))
    operation["responses"]["200"] = {
        **operation["responses"][str(status)],
        "description": "OK. With this header: the answer to the first request with this key.",
        "headers": {REPLAYED_HEADER: {"schema": {"type": "string", "enum": ["true"]}}},
    }


def _key_parameters(source: KeySource) -> list[dict[str, Any]]:
    hours = settings().idempotency_ttl / timedelta(hours=1)
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH}
    descriptions = {
        KEY_HEADERS[0]: f"Names this request. A request that is repeated with the same key within "
        f"{hours:g} hours gets the first answer again. {_WITHOUT_KEY[source]}",
        KEY_HEADERS[1]: "An older name of Idempotency-Key.",
    }
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, text in descriptions.items()
    ]
