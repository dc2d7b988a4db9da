"""The root of the HTTP API: health, the OpenAPI document of all contexts, and its page."""

import json
from functools import cache
from typing import Any

from aws_lambda_powertools.event_handler import Response

from skald.entrypoints.http import Api, Tx
from skald.errors import NotFound, Unavailable
from skald.idempotency import invalidate
from skald.state.postgres import database
from skald.state.valkey import valkey

VERSION = "1.0.0"

api = Api(authenticated=False)
handler = api.handler

tenant_api = Api()
"""What operates on one tenant's records, and therefore needs its key."""
tenant_handler = tenant_api.handler


@api.route("GET", "/health")
def health() -> dict[str, str]:
    """Say whether PostgreSQL and Redis answer; a lost Redis only slows things down."""
    return {"postgres": _postgres(), "redis": _redis()}


@api.route("GET", "/openapi.json")
def openapi() -> Response[str]:
    """Serve the OpenAPI document of every context."""
    return Response(status_code=200, content_type="application/json", body=_document())


@api.route("GET", "/docs")
def docs() -> Response[str]:
    """Show the OpenAPI document as a page to read and try."""
    from aws_lambda_powertools.event_handler.openapi.swagger_ui import html

    page = html.generate_swagger_html(
        spec=_document(),
        swagger_js=_asset("swagger-ui-bundle.min.js"),
        swagger_css=_asset("swagger-ui.min.css"),
        swagger_base_url="",
        oauth2_config=None,
        persist_authorization=True,
    )
    return Response(status_code=200, content_type="text/html", body=page)


@tenant_api.route("DELETE", "/idempotency-keys/<key>")
def invalidate_idempotency_key(key: str, tx: Tx) -> dict[str, int]:
    """Forget the answers to a key, so that the next request with it does the work again."""
    invalidated = invalidate(tx, key)
    if not invalidated:
        raise NotFound("no answer is stored under this idempotency key")
    return {"invalidated": invalidated}


def _postgres() -> str:
    try:
        with database().transaction(None) as tx:
            tx.execute("select 1")
    except Exception as error:
        raise Unavailable("PostgreSQL does not answer") from error
    return "ok"


def _redis() -> str:
    import redis

    try:
        valkey().ping()
    except redis.RedisError:
        return "unavailable"
    return "ok"


@cache
def _document() -> str:
    """Merge the contexts' documents; each describes only its own routes."""
    import batches.api
    from operations import operator_api, traces

    contexts = (batches.api.api, operator_api.api, traces.api, tenant_api, api)
    documents = [context.document("Skald", VERSION) for context in contexts]
    merged: dict[str, Any] = {**documents[0], "paths": {}, "components": {}}
    for document in documents:
        merged["paths"] |= document["paths"]
        for kind, parts in document.get("components", {}).items():
            merged["components"].setdefault(kind, {}).update(parts)
    return json.dumps(merged)


def _asset(name: str) -> str:
    from importlib.resources import files

    package = "aws_lambda_powertools.event_handler.openapi.swagger_ui"
    return files(package).joinpath(name).read_text()
