"""Replaces the native module of awslambdaric, which exists only for Linux, in pure Python."""

import http.client
import os

_PREFIX = "/2018-06-01/runtime/invocation"
_connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
_agent = ""


def initialize_client(user_agent: str) -> None:
    """Store the user agent of the runtime."""
    global _agent
    _agent = user_agent


def next() -> tuple[bytes, dict[str, str]]:
    """Wait for the next event; return its payload and its headers."""
    response = _request("GET", f"{_PREFIX}/next")
    return response.read(), dict(response.getheaders())


def post_invocation_result(
    invoke_id: str, result: bytes, content_type: str, _invocation_id: str | None = None
) -> None:
    """Send the result of the handler."""
    _request("POST", f"{_PREFIX}/{invoke_id}/response", result, content_type).read()


def post_error(
    invoke_id: str, error: str, _xray_fault: str, _invocation_id: str | None = None
) -> None:
    """Send the error of the handler."""
    _request("POST", f"{_PREFIX}/{invoke_id}/error", error.encode(), "application/json").read()


def _request(
    method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
) -> http.client.HTTPResponse:
    _connection.request(method, path, body, {"User-Agent": _agent, "Content-Type": content_type})
    response = _connection.getresponse()
    if response.status >= http.client.BAD_REQUEST:
        response.read()
        raise RuntimeError(f"the Runtime API answered {response.status} to {method} {path}")
    return response
