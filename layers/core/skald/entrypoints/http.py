"""HTTP: routes become functions of validated input, caller and transaction."""

from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from http import HTTPStatus
from inspect import cleandoc
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.depends import Depends
from aws_lambda_powertools.event_handler.exceptions import ServiceError
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
)
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.event_handler.openapi.types import OpenAPIResponse
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

from skald import listing, pools
from skald.access import tickets
from skald.access.keys import Principal, authenticate
from skald.entrypoints.entry import entry
from skald.errors import (
    InvalidInput,
    Malformed,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
)
from skald.idempotency import http as idempotency
from skald.postgres import Transaction, database
from skald.telemetry import Kind, current_span, current_trace_id, logger, metrics
from skald.telemetry.trace import from_headers
from skald.temporary import is_temporary
from skald.valkey import rate_limit

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


_KEY, _TICKET = "ApiKey", "Ticket"
_BY_KEY: dict[str, list[str]] = {_KEY: []}
_BY_TICKET: dict[str, list[str]] = {_TICKET: []}
"""The ways into a route, in the words of OpenAPI."""


class ProblemDocument(BaseModel):
    """RFC 9457 problem details, with a stable `code` and the trace to quote to support."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    trace_id: str


class _Request:
    """What one request owns: the caller, and transactions that end with it."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.stack = ExitStack()
        self.transaction: Transaction | None = None


_request: ContextVar[_Request] = ContextVar("request")


def _caller() -> Principal:
    return _request.get().principal


def _transaction() -> Transaction:
    request = _request.get()
    if request.transaction is None:
        request.transaction = request.stack.enter_context(
            database().transaction(request.principal.tenant_id)
        )
    return request.transaction


Caller = Annotated[Principal, Depends(_caller)]
"""The authenticated caller of a route."""

Tx = Annotated[Transaction, Depends(_transaction)]
"""A transaction of the caller's tenant: commits when the route returns, else rolls back."""

Listed = Annotated[listing.ListQuery, Query()]
"""The list parameters of a route."""


class Api:
    """The routes of one context and the Lambda handler that serves them.

    With `authenticated` every route needs an API key and gets `Caller` and `Tx` on request.
    """

    def __init__(self, *, authenticated: bool = True) -> None:
        self._authenticated = authenticated
        self.resolver = APIGatewayRestResolver(enable_validation=True)
        self._idempotent: list[idempotency.Route] = []
        if authenticated:
            self.resolver.use(middlewares=[_authenticated])
        self.resolver.exception_handler(Exception)(_refuse)
        self.resolver.exception_handler(idempotency.Unsuccessful)(lambda refusal: refusal.response)
        self.resolver.exception_handler(RequestValidationError)(self._refuse_input)
        unreadable = [UnicodeDecodeError, RecursionError, RequestUnsupportedContentType]
        self.resolver.exception_handler(unreadable)(self._refuse_body)
        self.resolver.exception_handler(ValueError)(self._refuse_value)
        self.resolver.not_found(_refuse_path)

    def route[**P, R](
        self,
        method: Method,
        path: str,
        *,
        status: int = 200,
        media_type: str | None = None,
        may_be_empty: bool = False,
        problems: tuple[int, ...] = (),
        idempotent: idempotency.KeySource | None = None,
        rows_first: bool = False,
        takes_tickets: bool = False,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Serve a path; the first line of the function's docstring is its OpenAPI summary.

        `media_type` is that of a route that answers with text instead of JSON; one that
        `may_be_empty` answers 204 at times. `problems` are the refusals of this route beside those
        any route may answer with. An `idempotent` route answers a repeated request from its
        record (W-03); one that does nothing which lasts before its first statement says
        `rows_first` (`Operation.run`). One that `takes_tickets` serves callers without a key who
        show a ticket for a path above it.
        """

        def register(function: Callable[P, R]) -> Callable[P, R]:
            summary, _, description = (function.__doc__ or "").partition("\n")
            middlewares, refusals = [], problems
            if idempotent:
                route = idempotency.Route(method, path, status, idempotent, rows_first)
                self._idempotent.append(route)
                middlewares = [route.middleware(_caller, _transaction)]
                refusals = (*problems, 409)
            self.resolver.route(
                path,
                method,
                status_code=status,
                summary=summary,
                description=cleandoc(description),
                responses=self._refusals(method, path, refusals)
                | _successes(status, media_type, may_be_empty),
                middlewares=middlewares,
                tags=[path.split("/")[1]],
                security=self._ways_in(takes_tickets),
            )(function)
            return function

        return register

    def _ways_in(self, takes_tickets: bool) -> list[dict[str, list[str]]] | None:
        if not self._authenticated:
            return None
        return [_BY_KEY, _BY_TICKET] if takes_tickets else [_BY_KEY]

    def _refusals(
        self, method: Method, path: str, problems: tuple[int, ...]
    ) -> dict[int, OpenAPIResponse]:
        refusals = {422, 503, *problems}
        refusals |= {401, 429} if self._authenticated else set()
        refusals |= {404} if "<" in path else set()
        refusals |= {400} if method in ("POST", "PUT", "PATCH") else set()
        content: dict[str, Any] = {"application/problem+json": {"model": ProblemDocument}}
        return {
            code: {"description": HTTPStatus(code).phrase, "content": content}
            for code in sorted(refusals)
        }

    def document(self, title: str, version: str) -> dict[str, Any]:
        """Return the OpenAPI document of these routes."""
        import json

        # Forty milliseconds of models that no other request needs.
        from aws_lambda_powertools.event_handler.openapi.models import APIKey, APIKeyIn, Server

        api_key = APIKey(name="X-Api-Key", in_=APIKeyIn.header)
        ticket = APIKey(name="ticket", in_=APIKeyIn.query)
        # Relative to where the document is served: a stage's path belongs to its addresses.
        text = self.resolver.get_openapi_json_schema(
            title=title,
            version=version,
            servers=[Server(url=".")],
            security_schemes={_KEY: api_key, _TICKET: ticket} if self._authenticated else None,
        )
        document: dict[str, Any] = json.loads(text)
        listing.describe(document)
        for route in self._idempotent:
            route.describe(document)
        return document

    def handler(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answer one API Gateway proxy event."""
        headers = {key.lower(): value for key, value in (event.get("headers") or {}).items()}
        with entry(Kind.HTTP, event["httpMethod"], from_headers(headers)) as own:
            answer: dict[str, Any] = self.resolver.resolve(event, context)
            answer.setdefault("multiValueHeaders", {})["X-Trace-Id"] = [own.trace_id]
            own.attributes["http.response.status_code"] = answer["statusCode"]
            own.status = "error" if answer["statusCode"] >= 500 else "ok"
            return answer

    def _refuse_input(self, error: RequestValidationError) -> Response[str]:
        return self._refuse_stranger() or _refuse_input(error)

    def _refuse_body(self, _: Exception) -> Response[str]:
        return self._refuse_stranger() or _response(Malformed("the body is not JSON in UTF-8"))

    def _refuse_value(self, error: ValueError) -> Response[str]:
        # The resolver has no better name for a form it cannot take apart.
        content_type = self.resolver.current_event.headers.get("content-type", "")
        is_form = content_type.startswith("multipart/")
        return self._refuse_body(error) if is_form else _refuse(error)

    def _refuse_stranger(self) -> Response[str] | None:
        """Answer a caller without a key first: the resolver reads the input before our check."""
        if self._authenticated:
            try:
                _principal(self.resolver)
            except Exception as error:
                return _refuse(error)
        return None


def _successes(
    status: int, media_type: str | None, may_be_empty: bool
) -> dict[int, OpenAPIResponse]:
    answer: OpenAPIResponse = {"description": HTTPStatus(status).phrase}
    if media_type:  # else the resolver describes the JSON by what the route returns
        answer["content"] = {media_type: {}}
    empty: OpenAPIResponse = {"description": HTTPStatus.NO_CONTENT.phrase, "content": {}}
    return {status: answer} | ({204: empty} if may_be_empty else {})


def _principal(app: APIGatewayRestResolver) -> Principal:
    try:
        principal = _identify(app)
    except Unauthenticated:
        rate_limit.per_ip().take(app.current_event.request_context.identity.source_ip)
        raise
    rate_limit.per_key().take(f"{principal.tenant_id}:{principal.actor_id}")
    rate_limit.per_resource().take(f"{principal.tenant_id}:{app.current_event.path}")
    _name_span(app, principal)
    return principal


def _identify(app: APIGatewayRestResolver) -> Principal:
    headers, route = app.current_event.headers, app.context.get("_route")
    bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
    key = headers.get("x-api-key") or bearer
    ticket = app.current_event.query_string_parameters.get("ticket")
    if ticket and not key and route is not None and _BY_TICKET in (route.security or ()):
        return tickets.redeem(database(), ticket, app.current_event.path)
    return authenticate(database(), key)


def _name_span(app: APIGatewayRestResolver, principal: Principal) -> None:
    """Say whose request the span is and which route it took: not the path, that holds ids."""
    own, route = current_span(), app.context.get("_route")
    if own is not None and route is not None:
        own.tenant_id = principal.tenant_id
        own.name = f"{app.current_event.http_method} {route.openapi_path}"


def _authenticated(app: APIGatewayRestResolver, next_middleware: NextMiddleware) -> Response[Any]:
    principal = _principal(app)
    request = _Request(principal)
    token = _request.set(request)
    try:
        with request.stack, logger.append_context_keys(tenant_id=str(principal.tenant_id)):
            answer = next_middleware(app)
            pools.publish()  # while the request still holds its connection
            return answer
    finally:
        _request.reset(token)


def _refuse(error: Exception) -> Response[str]:
    if isinstance(error, Problem):
        problem = error
    elif isinstance(error, ServiceError):
        problem = _of_status(error.status_code, str(error.msg))
    elif is_temporary(error):
        logger.exception("request met a temporary failure")
        problem = Unavailable("a service behind this one is busy", headers={"Retry-After": "1"})
    else:
        logger.exception("request failed")
        metrics.count("http_failures_count")
        problem = Problem("the trace id tells us what happened")
    return _response(problem)


def _refuse_input(error: RequestValidationError) -> Response[str]:
    faults = [
        {"where": ".".join(str(part) for part in fault["loc"]), "why": fault["msg"]}
        for fault in error.errors()
    ]
    if any(fault["type"].startswith("json_invalid") for fault in error.errors()):
        return _response(Malformed("the body is not JSON", errors=faults))
    summary = "; ".join(f"{fault['where']}: {fault['why']}" for fault in faults)
    return _response(InvalidInput(summary, errors=faults))


def _refuse_path(_: Exception) -> Response[str]:
    return _response(NotFound("no route leads here"))


def _of_status(status: int, detail: str) -> Problem:
    known = {400: Malformed, 404: NotFound, 405: MethodNotAllowed, 422: InvalidInput}
    return known.get(status, Problem)(detail)


def _response(problem: Problem) -> Response[str]:
    import json

    return Response(
        status_code=problem.status,
        content_type="application/problem+json",
        headers=problem.headers,
        body=json.dumps(problem.document(current_trace_id()), default=str),
    )
