"""Idempotent HTTP routes: the key, the stored answer and the headers (W-03)."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent

from skald.access.keys import Principal
from skald.errors import InvalidInput
from skald.idempotency.operation import JsonResult, Outcome

type KeySource = Literal["header", "automatic"]
"""`header`: only requests with a key are idempotent. `automatic`: others get a derived key."""
type Run = Callable[..., Outcome]
"""`Operation.run` or `run_rows_first` in the transaction of the current request."""
type Middleware = Callable[[APIGatewayRestResolver, NextMiddleware], Response[Any]]

KEY_HEADERS = ("Idempotency-Key", "X-Idempotency-Key")
REPLAYED_HEADER = "Idempotency-Replayed"
MAX_KEY_LENGTH = 255


class Unsuccessful(Exception):
    """A route returned a refusal. Raised so that the transaction rolls back and frees the key."""

    def __init__(self, response: Response[Any]) -> None:
        super().__init__()
        self.response = response


def middleware(source: KeySource, caller: Callable[[], Principal], run: Run) -> Middleware:
    """Return the middleware of an idempotent route: `run` does the route's work once per key.

    The claim, the effects of the route and the stored answer are committed together.
    """

    def answer_once(app: APIGatewayRestResolver, next_middleware: NextMiddleware) -> Response[Any]:
        request = _Request(app.current_event, caller())
        key = request.key or (request.automatic_key() if source == "automatic" else None)
        if key is None:
            return next_middleware(app)

        def work() -> JsonResult:
            return _stored(next_middleware(app))

        return _response(run(work, key=key, payload=request.payload), key)

    return answer_once


class _Request:
    """The parts of a request that decide whether two requests are the same."""

    def __init__(self, event: APIGatewayProxyEvent, principal: Principal) -> None:
        self.key = _sent_key(event.headers)
        self.payload = {
            "path": event.path,
            "query": event.multi_value_query_string_parameters,
            "body": _parsed(event.decoded_body),
        }
        self._method = event.http_method
        self._user = principal.actor_id

    def automatic_key(self) -> str:
        """Return `auto:` and 32 digits: the same for the same method, path, body and user."""
        identity = {"method": self._method, "user": self._user, **self.payload}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return f"auto:{digest[:32]}"


def _sent_key(headers: Mapping[str, str]) -> str | None:
    """Return the key from one of the headers; the IETF draft has it in quotation marks."""
    keys = {headers[name].strip().strip('"') for name in KEY_HEADERS if name in headers}
    if not keys:
        return None
    key = keys.pop()
    if keys or not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidInput(f"send one idempotency key of 1 to {MAX_KEY_LENGTH} characters")
    return key


def _parsed(body: str | None) -> Any:
    """Return the parsed body: white space and the order of keys do not matter."""
    try:
        return json.loads(body or "null")
    except json.JSONDecodeError:
        return body


def _stored(response: Response[Any]) -> JsonResult:
    """Return a successful response, which is JSON or text, with its body as the text to send."""
    if not 200 <= response.status_code < 300:
        raise Unsuccessful(response)
    body = response.body
    if response.is_json() and not isinstance(body, str):
        body = json.dumps(body, separators=(",", ":"))
    return {"status": response.status_code, "headers": response.headers, "body": body}


def _response(answer: Outcome, key: str) -> Response[str]:
    stored = answer.result
    headers = stored["headers"] | {KEY_HEADERS[0]: key}
    if answer.replayed:
        headers |= {REPLAYED_HEADER: "true"}
    status = 200 if answer.replayed else stored["status"]
    return Response(status_code=status, body=stored["body"], headers=headers)
