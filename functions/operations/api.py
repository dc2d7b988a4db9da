"""The root of the HTTP API: health, the OpenAPI document of all contexts, and its page."""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path as InPath
from aws_lambda_powertools.event_handler.openapi.params import Query

from operations.contexts import contexts
from skald.entrypoints.http import Api, Tx
from skald.errors import NotFound, Unavailable
from skald.idempotency import invalidate
from skald.models.records import Usage, usage
from skald.postgres import database
from skald.valkey import valkey

VERSION = "1.0.0"

Key = Annotated[str, InPath(description="The idempotency key.")]

api = Api(authenticated=False)
handler = api.handler

tenant_api = Api()
"""Routes about the records of one tenant; they need its API key."""
tenant_handler = tenant_api.handler


@api.route("GET", "/health")
def health() -> dict[str, str]:
    """Check whether PostgreSQL and Redis answer. A lost Redis only slows requests down."""
    return {"postgres": _postgres(), "redis": _redis()}


@api.route("GET", "/openapi.json")
def openapi() -> dict[str, Any]:
    """Get this document."""
    document: dict[str, Any] = json.loads(_document())
    return document


@api.route("GET", "/docs", media_type="text/html")
def docs() -> Response[str]:
    """Get a page that shows this document and sends requests."""
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


@api.route("GET", "/live", media_type="text/html")
def live() -> Response[str]:
    """Get a page that shows the progress of a batch.

    Open it as `live#BATCH&TICKET`. `POST /batches/{batch_id}/stream-ticket` gives the ticket.
    """
    page = Path(__file__).with_name("live.html").read_text()
    return Response(status_code=200, content_type="text/html; charset=utf-8", body=page)


@tenant_api.route("GET", "/model-usage")
def model_usage(
    tx: Tx,
    subject: Annotated[
        str, Query(max_length=200, description="One subject: the id of a batch.")
    ] = "",
    days: Annotated[int, Query(ge=1, le=90, description="Days to look back.")] = 30,
) -> list[Usage]:
    """Get the calls of models and their tokens, by day and model."""
    return usage(tx, subject or None, days)


@tenant_api.route("DELETE", "/idempotency-keys/<key>")
def invalidate_idempotency_key(key: Key, tx: Tx) -> dict[str, int]:
    """Delete the stored answers of an idempotency key.

    The next request with that key does the work again."""
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
    """Return the OpenAPI document of all contexts as JSON."""
    from skald.entrypoints.http import openapi

    return json.dumps(openapi.merged(contexts().apis, "Skald", VERSION))


def _asset(name: str) -> str:
    from importlib.resources import files

    package = "aws_lambda_powertools.event_handler.openapi.swagger_ui"
    return files(package).joinpath(name).read_text()
