"""Conditions a client or an operator has to know about, as RFC 9457 problem details."""

from collections.abc import Mapping
from typing import Any


class Problem(Exception):
    """A refusal with an HTTP status and a stable machine-readable `code`.

    `code` names a special case of the class, `extra` members are added to the problem document,
    `headers` to the response.
    """

    status = 500
    code = "internal"
    title = "Something went wrong on our side"

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
    title = "The request does not fit its description"


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
    title = "There is no such thing"


class MethodNotAllowed(Problem):
    status = 405
    code = "method_not_allowed"
    title = "This cannot be done here"


class Conflict(Problem):
    status = 409
    code = "conflict"
    title = "The state of the resource forbids this"


class TooLarge(Problem):
    status = 413
    code = "too_large"
    title = "This is more than is accepted"


class Unavailable(Problem):
    status = 503
    code = "unavailable"
    title = "Not now"


class Temporary(Exception):
    """Something a retry may cure: a lost connection, a lock that took too long, a throttle."""


class Busy(Temporary):
    """Somebody else is at this very work; later there may be nothing left to do."""


class Abandoned(Exception):
    """Nobody waits for the work any more; what was saved of it stays."""
