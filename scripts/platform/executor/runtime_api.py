"""The Lambda Runtime API (2018-06-01) for one process, on its own loopback port."""

import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from queue import SimpleQueue
from socketserver import ThreadingTCPServer
from threading import Lock, Thread
from typing import ClassVar

_PREFIX = "/2018-06-01/runtime"
_RESULT = re.compile(_PREFIX + r"/invocation/([^/]+)/(response|error)")
_ACCEPTED = b'{"status":"OK"}\n'
_TOO_LARGE = b'{"errorType":"RequestEntityTooLarge","errorMessage":"Exceeded maximum payload size"}'


@dataclass(frozen=True)
class Invocation:
    """One event for the function; `deadline_ms` is in epoch milliseconds."""

    request_id: str
    payload: bytes
    arn: str
    trace_id: str
    deadline_ms: int


@dataclass(frozen=True)
class Ready:
    """The runtime is initialised, and has asked for its first event."""


@dataclass(frozen=True)
class InitFailed:
    """The runtime could not load the handler."""

    payload: bytes


@dataclass(frozen=True)
class Returned:
    """The handler has returned or raised; the payload is None if the response is too large."""

    request_id: str
    payload: bytes | None
    failed: bool


@dataclass(frozen=True)
class Exited:
    """The process has ended; `status` is the return code of `subprocess`."""

    status: int


type Event = Ready | InitFailed | Returned | Exited


class RuntimeApi:
    """Passes invocations to the process, and reports its actions as events.

    It calls `freeze` when the process is idle, and `thaw` before the next invocation.
    """

    def __init__(
        self, freeze: Callable[[], None], thaw: Callable[[], None], max_response: int
    ) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.max_response = max_response
        self._freeze = freeze
        self._thaw = thaw
        self._waiting: SimpleQueue[Invocation | None] = SimpleQueue()
        self._turn = Lock()
        self._ready = False
        self._closed = False
        self._server = _Server(self)
        Thread(target=self._serve, name="runtime-api", daemon=True).start()

    @property
    def address(self) -> str:
        """Return host:port for AWS_LAMBDA_RUNTIME_API."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def submit(self, invocation: Invocation) -> None:
        """Give the process its next event."""
        # Without the lock, `next` could freeze the process after the event is in the queue.
        with self._turn:
            self._thaw()
            self._waiting.put(invocation)

    def next(self) -> Invocation | None:
        """Wait for the next event of the process; return None when the API closes."""
        with self._turn:
            if not self._ready:
                self._ready = True
                self.events.put(Ready())
            elif self._waiting.empty():
                self._freeze()
        return self._waiting.get()

    def close(self) -> None:
        """Stop serving and release the port."""
        self._closed = True
        self._waiting.put(None)
        with socket.socket() as wake:  # the connection ends the wait in handle_request
            wake.connect_ex(self._server.server_address)

    def _serve(self) -> None:
        with self._server:
            while not self._closed:
                self._server.handle_request()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore connection errors, which a killed process causes; report all other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Head and body are two writes. With Nagle's algorithm, the second waits 40 ms for an ACK.
    disable_nagle_algorithm: ClassVar[bool] = True

    def do_GET(self) -> None:
        if self.path != f"{_PREFIX}/invocation/next":
            self._answer(HTTPStatus.NOT_FOUND)
            return
        invocation = self.server.api.next()
        if invocation is None:
            self.close_connection = True
            return
        self._answer(HTTPStatus.OK, invocation.payload, _headers(invocation))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        result = _RESULT.fullmatch(self.path)
        if result:
            self._take_result(result[1], body, failed=result[2] == "error")
        elif self.path == f"{_PREFIX}/init/error":
            self.server.api.events.put(InitFailed(body))
            self._answer(HTTPStatus.ACCEPTED, _ACCEPTED)
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def _take_result(self, request_id: str, body: bytes, *, failed: bool) -> None:
        api = self.server.api
        fits = len(body) <= api.max_response
        # Answer first: after the event below, the process may be frozen at any moment.
        if fits:
            self._answer(HTTPStatus.ACCEPTED, _ACCEPTED)
        else:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
        api.events.put(Returned(request_id, body if fits else None, failed))

    def _answer(
        self, status: HTTPStatus, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing, so that requests are not in LocalStack's log."""


def _headers(invocation: Invocation) -> dict[str, str]:
    return {
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": invocation.arn,
        "Lambda-Runtime-Trace-Id": invocation.trace_id,
    }
