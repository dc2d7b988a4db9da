"""G-09, P-07, errors: the promises of the HTTP adapter for every route."""

from typing import Annotated, Any
from uuid import UUID

import psycopg
import pytest
from aws_lambda_powertools.event_handler.openapi.params import Query
from botocore.exceptions import EndpointConnectionError
from pydantic import BaseModel
from tests.integration.support import Answer, call, event, proxy_event

from skald.entrypoints.http import Api, Caller, Tx
from skald.errors import Conflict, Unavailable
from skald.messaging import inbox
from skald.postgres import Database
from skald.telemetry import current_trace_id

SECRET = "password=hunter2 in row 7"  # noqa: S105
TRACEPARENT = f"00-{'c' * 32}-{'d' * 16}-01"

api = Api()


class Note(BaseModel):
    """The body of a request."""

    number: int


ERRORS: dict[str, Exception] = {
    "conflict": Conflict("it is taken", owner="somebody"),
    "busy": Unavailable("all busy", headers={"Retry-After": "7"}),
    "lost": psycopg.OperationalError(SECRET),
    "aws": EndpointConnectionError(endpoint_url=SECRET),
    "bug": RuntimeError(SECRET),
    "key": KeyError(SECRET),
    "sql": psycopg.errors.UniqueViolation(SECRET),
}


@api.route("POST", "/notes", status=201)
def write_note(note: Note, tx: Tx, caller: Caller) -> dict[str, Any]:
    """Write a note."""
    inbox.accept(tx, event(tx.tenant_id, number=note.number), "http")
    return {"tenant": str(caller.tenant_id), "actor": caller.actor_id, "trace": current_trace_id()}


@api.route("POST", "/notes/<name>", problems=(409,))
def write_and_fail(name: str, tx: Tx) -> dict[str, Any]:
    """Write a note and fail."""
    inbox.accept(tx, event(tx.tenant_id), "http")
    raise ERRORS[name]


@api.route("GET", "/notes")
def count_notes(tx: Tx, number: Annotated[int, Query(ge=1)] = 1) -> int:
    """Count the notes."""
    return int(tx.value("select count(*) from skald.inbox"))


class Notes:
    """Calls the routes above."""

    def __init__(self, api_key: str) -> None:
        self.key = api_key

    def __call__(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        names = {"X-Api-Key": self.key} if not headers.pop("anonymous", "") else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(api.handler, proxy_event(method, path, body=body, headers=names | named))

    def count(self) -> int:
        return int(self("GET", "/notes").body)


@pytest.fixture
def notes(database: Database, api_key: str) -> Notes:
    """The routes of this file, called with the tenant's key."""
    return Notes(api_key)


def test_a_route_commits_when_it_returns(notes: Notes, tenant: UUID) -> None:
    """Q-03: the transaction has the tenant of the caller and commits when the route returns."""
    answer = notes("POST", "/notes", '{"number": 1}')
    assert answer.status == 201
    assert (answer.body["tenant"], answer.body["actor"]) == (str(tenant), "key:test")
    assert notes.count() == 1


@pytest.mark.parametrize("name", ERRORS)
def test_a_route_that_fails_rolls_back(notes: Notes, name: str) -> None:
    """Q-03: after any error nothing of the transaction stays."""
    assert notes("POST", f"/notes/{name}").status >= 400
    assert notes.count() == 0


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("conflict", 409, "conflict"),
        ("busy", 503, "unavailable"),
        ("lost", 503, "unavailable"),
        ("aws", 503, "unavailable"),
        ("bug", 500, "internal"),
        ("key", 500, "internal"),
        ("sql", 500, "internal"),
    ],
)
def test_errors_become_problems_that_leak_nothing(
    notes: Notes, name: str, status: int, code: str
) -> None:
    """Errors: a problem has a stable code and a trace id, and shows nothing internal."""
    answer = notes("POST", f"/notes/{name}")
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "trace_id"} <= set(answer.body)
    assert (answer.body["status"], answer.body["code"]) == (status, code)
    assert answer.body["trace_id"] == answer.headers["x-trace-id"]
    for leak in ("hunter2", "Traceback", "psycopg", "Error"):
        assert leak not in answer.text


def test_a_problem_keeps_its_extras_and_headers(notes: Notes) -> None:
    """G-12, G-16: the answer says what a client needs in order to continue."""
    assert notes("POST", "/notes/conflict").body["owner"] == "somebody"
    assert notes("POST", "/notes/busy").headers["retry-after"] == "7"
    assert int(notes("POST", "/notes/lost").headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/elsewhere", None, 404, "not_found"),
        ("DELETE", "/notes", None, 404, "not_found"),
        ("POST", "/notes", "{", 400, "malformed"),
        ("POST", "/notes", "{}", 422, "invalid_input"),
        ("POST", "/notes", '{"number": "x"}', 422, "invalid_input"),
    ],
)
def test_bad_requests_have_different_codes(
    notes: Notes, method: str, path: str, body: str | None, status: int, code: str
) -> None:
    """Errors: 400, 404 and 422 each have their code."""
    answer = notes(method, path, body)
    assert (answer.status, answer.body["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_invalid_input_names_its_place(notes: Notes) -> None:
    """Errors: the answer names the field that is wrong."""
    answer = notes("POST", "/notes", '{"number": "x"}')
    assert any("number" in fault["where"] for fault in answer.body["errors"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/notes", None), ("POST", "/notes", "{"), ("POST", "/notes", "{}")],
)
def test_no_request_passes_without_a_key(
    notes: Notes, method: str, path: str, body: str | None
) -> None:
    """P-07: for any request without a valid key the answer says only that a key is needed."""
    for headers in ({"anonymous": "yes"}, {"X_Api_Key": "skald_wrong"}, {"X_Api_Key": ""}):
        answer = notes(method, path, body, **headers)
        assert (answer.status, answer.body["code"]) == (401, "unauthenticated")


def test_a_key_may_come_as_bearer(notes: Notes) -> None:
    """P-07: `Authorization: Bearer` works as `X-Api-Key` does."""
    assert (
        notes("GET", "/notes", anonymous="yes", Authorization=f"Bearer {notes.key}").status == 200
    )
    assert notes("GET", "/notes", anonymous="yes", Authorization="Bearer wrong").status == 401


def test_the_callers_trace_goes_on(notes: Notes) -> None:
    """G-09: a W3C traceparent is used in the route, the answer and the refusal."""
    answer = notes("POST", "/notes", '{"number": 1}', traceparent=TRACEPARENT)
    assert answer.body["trace"] == answer.headers["x-trace-id"] == "c" * 32
    assert notes("GET", "/elsewhere", traceparent=TRACEPARENT).body["trace_id"] == "c" * 32


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'C' * 32}-x", f"00-{'0' * 32}"])
def test_a_broken_trace_is_replaced(notes: Notes, traceparent: str) -> None:
    """G-09: each such request gets a trace of its own."""
    traces = {
        notes("GET", "/notes", traceparent=traceparent).headers["x-trace-id"] for _ in range(2)
    }
    assert len(traces) == 2
    assert all(len(trace) == 32 and int(trace, 16) for trace in traces)


def test_two_requests_do_not_share_a_transaction(notes: Notes) -> None:
    """Q-03: an environment that is reused begins a new transaction."""
    notes("POST", "/notes/bug")
    notes("POST", "/notes", '{"number": 1}')
    notes("POST", "/notes/bug")
    assert notes.count() == 1


def test_an_event_without_headers_has_no_key(database: Database) -> None:
    """P-07: the test console of API Gateway sends null for headers."""
    bare = proxy_event("GET", "/notes") | {"headers": None, "multiValueHeaders": None}
    assert call(api.handler, bare).status == 401


def test_every_route_is_documented() -> None:
    """Errors: the OpenAPI document names the problems of each route."""
    document = api.document("Test", "1")
    operation = document["paths"]["/notes/{name}"]["post"]
    assert operation["summary"] == "Write a note and fail."
    assert {"200", "401", "404", "409", "422", "503"} <= set(operation["responses"])
    assert operation["security"] == [{"ApiKey": []}]
