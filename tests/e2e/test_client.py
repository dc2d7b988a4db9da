"""The client of scripts/client against a busy API."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from uuid import uuid4

from client.api import Client


@contextmanager
def busy_api(refusals: int) -> Iterator[str]:
    """Serve an API that answers 503 this many times, then an empty object. Yields its address."""
    left = [refusals]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left[0] -= 1
            body = json.dumps({"detail": "busy"} if left[0] >= 0 else {}).encode()
            self.send_response(503 if left[0] >= 0 else 200)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_client_repeats_a_call_after_retry_after() -> None:
    """G-01: a call with the answer 503 and Retry-After is repeated."""
    with busy_api(2) as url:
        client = Client(url, "skald_x")
        try:
            assert client.batch(uuid4()) == {}
        finally:
            client.session.close()
