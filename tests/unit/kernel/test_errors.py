"""Errors are problem details (RFC 9457) with a stable code."""

import pytest

from skald import errors
from skald.errors import Problem, Temporary, Unavailable
from skald.temporary import is_temporary, temporary_errors

STABLE = {
    "internal": 500,
    "invalid_input": 422,
    "malformed": 400,
    "unauthenticated": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "unavailable": 503,
}


def test_codes_and_statuses_are_stable() -> None:
    """Errors: clients depend on these codes; new ones may be added."""
    known = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code: kind.status for kind in known if issubclass(kind, Problem)}
    assert STABLE.items() <= codes.items()


def test_a_problem_document_has_all_members() -> None:
    """Errors: type, title, status, detail, code, trace_id, and the members of the case."""
    problem = errors.Conflict("taken", headers={"Retry-After": "1"}, owner="x")
    assert problem.document("a" * 32) == {
        "type": "urn:skald:problem:conflict",
        "title": errors.Conflict.title,
        "status": 409,
        "detail": "taken",
        "code": "conflict",
        "trace_id": "a" * 32,
        "owner": "x",
    }
    assert problem.headers == {"Retry-After": "1"}
    assert str(problem) == "taken"


def test_the_type_follows_a_special_code() -> None:
    """Errors: `type` and `code` always agree."""
    problem = errors.Conflict("full", code="too_many_files")
    document = problem.document("")
    assert (document["type"], document["code"]) == (
        "urn:skald:problem:too_many_files",
        "too_many_files",
    )
    assert errors.Conflict("other").code == "conflict"


def _errors() -> dict[Exception, bool]:
    import botocore.exceptions as aws
    import psycopg
    import redis

    return {
        psycopg.OperationalError(): True,
        psycopg.errors.LockNotAvailable(): True,
        psycopg.errors.AdminShutdown(): True,
        psycopg.errors.DeadlockDetected(): True,
        redis.ConnectionError(): True,
        redis.TimeoutError(): True,
        aws.EndpointConnectionError(endpoint_url="x"): True,
        aws.ReadTimeoutError(endpoint_url="x"): True,
        Temporary(): True,
        Unavailable("busy"): True,
        psycopg.errors.UniqueViolation(): False,
        psycopg.errors.InsufficientPrivilege(): False,
        redis.ResponseError(): False,
        ValueError(): False,
        errors.Conflict("x"): False,
    }


@pytest.mark.parametrize(
    ("error", "temporary"), list(_errors().items()), ids=lambda v: type(v).__name__
)
def test_what_a_retry_may_cure_is_known(error: Exception, temporary: bool) -> None:
    """V-12: temporary errors are retried, and no others."""
    assert is_temporary(error) is temporary


def test_temporary_errors_are_renamed_and_others_pass() -> None:
    """C-07: the state machine knows one name, and the cause stays visible."""
    with pytest.raises(Temporary, match="Unavailable: busy") as caught, temporary_errors():
        raise Unavailable("busy")
    assert isinstance(caught.value.__cause__, Unavailable)
    with pytest.raises(ZeroDivisionError), temporary_errors():
        raise ZeroDivisionError
