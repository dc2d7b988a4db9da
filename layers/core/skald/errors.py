"""Errors that a client or an operator must know, as RFC 9457 problem details."""

from collections.abc import Mapping
from typing import Any


class Problem(Exception):
    """A refusal with an HTTP status and a stable machine-readable `code`.

    `code` names a special case of the class. `extra` members go into the problem document,
    `headers` into the response.
    """

    status = 500
    code = "internal"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self, trace_id: str) -> dict[str, Any]:
        """Return the problem document: type, title, status, detail, code, trace_id, extras."""
        return {
            "type": f"urn:skald:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "trace_id": trace_id,
            **self.extra,
        }


class InvalidInput(Problem):
    status = 422
    code = "invalid_input"
    title = "The request is not valid"


class Malformed(Problem):
    status = 400
    code = "malformed"
    title = "The request cannot be read"


class Unauthenticated(Problem):
    status = 401
    code = "unauthenticated"
    title = "A valid API key is needed"


class NotFound(Problem):
    status = 404
    code = "not_found"
    title = "Not found"


class MethodNotAllowed(Problem):
    status = 405
    code = "method_not_allowed"
    title = "The path does not allow this method"


class Conflict(Problem):
    status = 409
    code = "conflict"
    title = "The state of the resource does not allow this"


class TooLarge(Problem):
    status = 413
    code = "too_large"
    title = "The request is too large"


class Unavailable(Problem):
    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"


class Temporary(Exception):
    """A retry may succeed: a lost connection, a lock that took too long, a throttled call."""


class Busy(Temporary):
    """Another worker does this work now; a later retry may find it done."""


class Abandoned(Exception):
    """The state that waited for this work has ended; the saved part of the work stays."""
