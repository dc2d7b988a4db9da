"""A model endpoint with OpenAI's protocol. It records every request, and fails where a test says
so.

Its `script` is a function from the prompt of a request to a `Reply`. Any process may call it. Its
record is in this process, so it survives the kill of the caller.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = 64
PIECE = 12
"""Characters of one piece of a streamed answer."""


@dataclass(frozen=True)
class Reply:
    """What the endpoint does with one request."""

    text: str = "{}"
    status: int = 200
    retry_after: str | None = None
    seconds: float = 0.0
    """The time until the answer begins."""
    pause: float = 0.0
    """The time between two pieces of a streamed answer."""
    break_after: int | None = None
    """The number of pieces after which the connection is dropped."""
    is_counted: bool = True
    """Whether the answer has token counts."""


@dataclass
class Asked:
    """One request that came in."""

    path: str
    body: dict[str, Any]
    key: str | None
    began: float
    ended: float | None = None

    @property
    def prompt(self) -> str:
        """The prompt, or the first of the texts to embed."""
        if "input" in self.body:
            return str(self.body["input"][0])
        return str(self.body["messages"][-1]["content"])

    @property
    def instructions(self) -> str:
        return str(self.body["messages"][0]["content"])


type Script = Callable[[str], Reply]


def always(reply: Reply) -> Script:
    return lambda _: reply


def in_turn(*replies: Reply) -> Script:
    """Return each reply once; after that, always the last one."""
    left = list(replies)
    guard = threading.Lock()

    def script(_: str) -> Reply:
        with guard:
            return left.pop(0) if len(left) > 1 else left[0]

    return script


@dataclass
class ModelEndpoint:
    """The running endpoint and its requests; `url` is the base URL to configure."""

    url: str
    script: Script = field(default_factory=lambda: always(Reply()))
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def setting(self) -> str:
        """The value of `MODEL` that reaches this endpoint."""
        return f"openai:fake@{self.url}"

    @property
    def prompts(self) -> Counter[str]:
        """How often each prompt came."""
        return Counter(asked.prompt for asked in list(self.asked))

    def enter(self, asked: Asked) -> None:
        with self._guard:
            self.asked.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)

    def leave(self, asked: Asked) -> None:
        with self._guard:
            asked.ended = time.monotonic()
            self._at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # close() ends their connections
    request_queue_size = 256
    endpoint: ModelEndpoint


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    server: _Server

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:
        endpoint = self.server.endpoint
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(self.path, body, self.headers.get("Authorization"), time.monotonic())
        endpoint.enter(asked)
        try:
            self._complete(body, endpoint.script(asked.prompt))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            endpoint.leave(asked)

    def _complete(self, body: dict[str, Any], reply: Reply) -> None:
        time.sleep(reply.seconds)
        if reply.status != 200:
            headers = {"Retry-After": reply.retry_after} if reply.retry_after else {}
            self._send(reply.status, {"error": {"message": "as scripted"}}, headers)
        elif "input" in body:
            self._send(200, _embeddings(body))
        elif body.get("stream"):
            self._stream(body, reply)
        else:
            message = {"role": "assistant", "content": reply.text}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self._send(200, {"choices": choices} | _usage(body, reply))

    def _stream(self, body: dict[str, Any], reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        pieces = [reply.text[at : at + PIECE] for at in range(0, len(reply.text), PIECE)]
        for number, piece in enumerate(pieces):
            if number == reply.break_after:
                return
            time.sleep(reply.pause)
            self._event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if usage := _usage(body, reply):
            self._event({"choices": []} | usage)
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _send(
        self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if not reply.is_counted:
        return {}
    said = sum(len(message["content"].split()) for message in body["messages"])
    wrote = len(reply.text.split())
    return {"usage": {"prompt_tokens": said, "completion_tokens": wrote}}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Embed by the hash of each text, out of order: different texts are far apart."""
    rows = [{"index": n, "embedding": vector(text)} for n, text in enumerate(body["input"])]
    return {"data": rows[::-1]}


def vector(text: str) -> list[float]:
    digest = hashlib.shake_256(text.encode()).digest(DIMENSIONS)
    return [(byte - 127.5) / 127.5 for byte in digest]


@contextmanager
def model_endpoint(script: Script | None = None) -> Iterator[ModelEndpoint]:
    """Run an endpoint on a free port for the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    endpoint = ModelEndpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
    if script is not None:
        endpoint.script = script
    server.endpoint = endpoint
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
