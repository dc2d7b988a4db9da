"""Access to a route: the API key or ticket of its caller, and the rate limits."""

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware

from skald import pools
from skald.access import tickets
from skald.access.keys import Principal, authenticate
from skald.entrypoints.http import request
from skald.errors import Unauthenticated
from skald.postgres import database
from skald.telemetry import current_span, logger
from skald.valkey import rate_limit

KEY, TICKET = "ApiKey", "Ticket"
"""The names of the security schemes in the OpenAPI document."""
BY_KEY: dict[str, list[str]] = {KEY: []}
BY_TICKET: dict[str, list[str]] = {TICKET: []}
"""Security requirements of a route, as OpenAPI writes them."""


def authenticated(app: APIGatewayRestResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Authenticate the caller, run the route, and end its transaction before the answer is sent."""
    own = request.Request(principal(app))
    token = request.current.set(own)
    try:
        with own.stack, logger.append_context_keys(tenant_id=str(own.principal.tenant_id)):
            answer = next_middleware(app)
            pools.publish()  # while the request still holds its connection
            return answer
    finally:
        request.current.reset(token)


def principal(app: APIGatewayRestResolver) -> Principal:
    """Return the caller of the current request.

    Raises `Unauthenticated`, or `RateLimited` for a caller, address or path that asks too often.
    """
    try:
        found = _identify(app)
    except Unauthenticated:
        rate_limit.per_ip().take(app.current_event.request_context.identity.source_ip)
        raise
    rate_limit.per_key().take(f"{found.tenant_id}:{found.actor_id}")
    rate_limit.per_resource().take(f"{found.tenant_id}:{app.current_event.path}")
    _name_span(app, found)
    return found


def _identify(app: APIGatewayRestResolver) -> Principal:
    headers, route = app.current_event.headers, app.context.get("_route")
    bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
    key = headers.get("x-api-key") or bearer
    ticket = app.current_event.query_string_parameters.get("ticket")
    if ticket and not key and route is not None and BY_TICKET in (route.security or ()):
        return tickets.redeem(database(), ticket, app.current_event.path)
    return authenticate(database(), key)


def _name_span(app: APIGatewayRestResolver, principal: Principal) -> None:
    """Write tenant and route into the span; not the path, because a path holds ids."""
    own, route = current_span(), app.context.get("_route")
    if own is not None and route is not None:
        own.tenant_id = principal.tenant_id
        own.name = f"{app.current_event.http_method} {route.openapi_path}"
