"""Errors as answers: problem documents with a stable code and the trace id (RFC 9457)."""

import json

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.exceptions import ServiceError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from skald.errors import (
    InvalidInput,
    Malformed,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unavailable,
)
from skald.telemetry import current_trace_id, logger, metrics
from skald.temporary import is_temporary

MEDIA_TYPE = "application/problem+json"


def response(problem: Problem) -> Response[str]:
    """Return a problem as the answer to the current request."""
    return Response(
        status_code=problem.status,
        content_type=MEDIA_TYPE,
        headers=problem.headers,
        body=json.dumps(problem.document(current_trace_id()), default=str),
    )


def of_error(error: Exception) -> Response[str]:
    """Return the answer to an error; log the details that a client must not see."""
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
    return response(problem)


def of_input(error: RequestValidationError) -> Response[str]:
    """Return every fault of an input: 400 if the body is not JSON, else 422."""
    faults = [
        {"where": ".".join(str(part) for part in fault["loc"]), "why": fault["msg"]}
        for fault in error.errors()
    ]
    if any(fault["type"].startswith("json_invalid") for fault in error.errors()):
        return response(Malformed("the body is not JSON", errors=faults))
    summary = "; ".join(f"{fault['where']}: {fault['why']}" for fault in faults)
    return response(InvalidInput(summary, errors=faults))


def of_body(_: Exception) -> Response[str]:
    """Answer 400 to a body that cannot be read at all."""
    return response(Malformed("the body is not JSON in UTF-8"))


def of_path(_: Exception) -> Response[str]:
    """Answer 404 to a path without a route."""
    return response(NotFound("no route leads here"))


def _of_status(status: int, detail: str) -> Problem:
    known = {400: Malformed, 404: NotFound, 405: MethodNotAllowed, 422: InvalidInput}
    return known.get(status, Problem)(detail)
