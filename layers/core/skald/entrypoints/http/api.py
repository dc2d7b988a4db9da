"""The routes of one context, and the Lambda handler that serves them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
)

from skald.entrypoints.entry import entry
from skald.entrypoints.http import access, refusals, request
from skald.idempotency import Operation
from skald.idempotency import http as idempotency
from skald.telemetry import Kind, context_of_headers

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Route(NamedTuple):
    """A route as the OpenAPI document describes it; see `Api.route` for its fields."""

    method: Method
    path: str
    status: int
    media_type: str | None
    may_be_empty: bool
    problems: tuple[int, ...]
    idempotent: idempotency.KeySource | None


class Api:
    """The routes of one context and the Lambda handler that serves them.

    With `authenticated` every route needs an API key and gets `Caller` and `Tx` on request.
    """

    def __init__(self, *, authenticated: bool = True) -> None:
        self.authenticated = authenticated
        self.resolver = APIGatewayRestResolver(enable_validation=True)
        self.routes: list[Route] = []
        if authenticated:
            self.resolver.use(middlewares=[access.authenticated])
        self.resolver.exception_handler(Exception)(refusals.of_error)
        self.resolver.exception_handler(idempotency.Unsuccessful)(lambda refusal: refusal.response)
        self.resolver.exception_handler(RequestValidationError)(self._refuse_input)
        unreadable = [UnicodeDecodeError, RecursionError, RequestUnsupportedContentType]
        self.resolver.exception_handler(unreadable)(self._refuse_body)
        self.resolver.exception_handler(ValueError)(self._refuse_value)
        self.resolver.not_found(refusals.of_path)

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

        `media_type` is the type of an answer that is text instead of JSON. A route with
        `may_be_empty` can answer 204. `problems` are the statuses of the route's own refusals,
        beside those that every route has. An `idempotent` route answers a repeated request from its
        record (W-03). `rows_first` says that the route does nothing with a lasting effect before
        its first statement (`Operation.run_rows_first`). A route with `takes_tickets` also serves a
        caller without a key who sends a ticket for a path above it.
        """
        self.routes.append(
            Route(method, path, status, media_type, may_be_empty, problems, idempotent)
        )
        middlewares = []
        if idempotent:
            run = request.run_rows_first if rows_first else request.run
            run_this = partial(run, Operation(f"{method} {path}"))
            middlewares = [idempotency.middleware(idempotent, request.caller, run_this)]

        def register(function: Callable[P, R]) -> Callable[P, R]:
            summary, _, description = (function.__doc__ or "").partition("\n")
            self.resolver.route(
                path,
                method,
                status_code=status,
                summary=summary,
                description=cleandoc(description),
                middlewares=middlewares,
                tags=[path.split("/")[1]],
                security=self._security(takes_tickets=takes_tickets),
            )(function)
            return function

        return register

    def document(self, title: str, version: str) -> dict[str, Any]:
        """Return the OpenAPI document of these routes."""
        from skald.entrypoints.http import openapi

        return openapi.document(self, title, version)

    def handler(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answer one API Gateway proxy event."""
        headers = {key.lower(): value for key, value in (event.get("headers") or {}).items()}
        with entry(Kind.HTTP, event["httpMethod"], context_of_headers(headers)) as own:
            answer: dict[str, Any] = self.resolver.resolve(event, context)
            answer.setdefault("multiValueHeaders", {})["X-Trace-Id"] = [own.trace_id]
            own.attributes["http.response.status_code"] = answer["statusCode"]
            own.status = "error" if answer["statusCode"] >= 500 else "ok"
            return answer

    def _security(self, *, takes_tickets: bool) -> list[dict[str, list[str]]] | None:
        if not self.authenticated:
            return None
        return [access.BY_KEY, access.BY_TICKET] if takes_tickets else [access.BY_KEY]

    # The resolver validates the input before our middleware runs. A caller without a key must
    # get 401 first, not the faults of the input.

    def _refuse_input(self, error: RequestValidationError) -> Response[str]:
        return self._refuse_caller() or refusals.of_input(error)

    def _refuse_body(self, error: Exception) -> Response[str]:
        return self._refuse_caller() or refusals.of_body(error)

    def _refuse_value(self, error: ValueError) -> Response[str]:
        # The resolver raises a plain ValueError for a form that it cannot parse.
        content_type = self.resolver.current_event.headers.get("content-type", "")
        is_form = content_type.startswith("multipart/")
        return self._refuse_body(error) if is_form else refusals.of_error(error)

    def _refuse_caller(self) -> Response[str] | None:
        """Return the refusal of a caller without a valid key, None for all others."""
        if self.authenticated:
            try:
                access.principal(self.resolver)
            except Exception as error:
                return refusals.of_error(error)
        return None
