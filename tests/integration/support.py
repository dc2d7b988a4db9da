"""Tools for integration tests: API calls, threads that start together, waits for locks."""

import json
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, cast
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow
from stack.part import Part
from stack.valkey import Valkey
from tests.conftest import Context

from skald.messaging import Envelope
from skald.messaging.envelope import derived_id
from skald.postgres import Transaction
from skald.postgres.pipeline import PipelinedConnection
from skald.retention import RETENTIONS, Retention

type Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


# HTTP ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """The response of a proxy integration."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def proxy_event(
    method: str,
    path: str,
    *,
    body: str | None = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    is_base64: bool = False,
) -> dict[str, Any]:
    """Return the event that API Gateway makes of a request to a REST API."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": dict(headers or {}),
        "multiValueHeaders": {name: [value] for name, value in (headers or {}).items()},
        "queryStringParameters": dict(query) if query else None,
        "multiValueQueryStringParameters": {k: [v] for k, v in query.items()} if query else None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "stage": "test",
            "path": f"/test{path}",
            "requestId": "request",
            "httpMethod": method,
            "identity": {"sourceIp": "127.0.0.1"},
        },
        "body": body,
        "isBase64Encoded": is_base64,
    }


def call(handler: Handler, event: dict[str, Any]) -> Answer:
    """Invoke an HTTP handler."""
    answer = handler(event, Context())
    headers = {name.lower(): value[-1] for name, value in answer["multiValueHeaders"].items()}
    return Answer(answer["statusCode"], headers, answer.get("body") or "")


class Client:
    """A client of the batches API with one key."""

    def __init__(self, api_key: str) -> None:
        self._headers = {"X-Api-Key": api_key, "Content-Type": "application/json"}

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        all_headers = self._headers | dict(headers or {})
        event = proxy_event(method, path, body=text, query=query, headers=all_headers)
        return call(self._handler(), event)

    def _handler(self) -> Handler:
        from batches.api import handler

        return handler

    def open_batch(self, **fields: Any) -> str:
        """Open a batch and return its id."""
        answer = self("POST", "/batches", {"name": "night drive"} | fields)
        assert answer.status == 201, answer.text
        batch_id: str = answer.body["batch_id"]
        return batch_id


# Concurrency --------------------------------------------------------------------------------------


def together[T](*works: Callable[[], T]) -> list[T]:
    """Run all at once, one thread each. Returns the results in order, raises the first error."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> T:
        start.wait(timeout=30)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(run, work) for work in works]]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Poll until a condition holds, for effects without an event."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.005)


def wait_until_blocked(admin: Connection[DictRow], sessions: int = 1) -> None:
    """Wait until this number of sessions of our database wait for a lock."""

    def blocked() -> bool:
        row = admin.execute(
            "select count(*) as waiting from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
            " and backend_type = 'client backend'"
        ).fetchone()
        return row is not None and int(row["waiting"]) >= sessions

    wait_until(blocked, f"{sessions} sessions to wait for a lock")


def wait_until_unseen(admin: Connection[DictRow]) -> None:
    """Wait until no session can see deleted rows any more, so that a vacuum removes them.

    Autovacuum may read a table at any time and see them.
    """

    def unseen() -> bool:
        row = admin.execute(
            "select count(*) as snapshots from pg_stat_activity"
            " where backend_xmin is not null and pid <> pg_backend_pid()"
        ).fetchone()
        return row is not None and row["snapshots"] == 0

    wait_until(unseen, "older snapshots to end")


# Round trips --------------------------------------------------------------------------------------


@contextmanager
def counting_round_trips(tx: Transaction) -> Iterator[list[int]]:
    """Count the round trips of the block. The list has the number after the block."""
    counted: list[int] = []
    with tempfile.TemporaryFile("w+") as trace:
        pgconn = cast(PipelinedConnection, tx.connection).pgconn
        pgconn.trace(trace.fileno())
        yield counted
        pgconn.untrace()
        trace.seek(0)
        counted.append(sum("ReadyForQuery" in line for line in trace))


def round_trips[T: Transaction](
    transaction: AbstractContextManager[T], work: Callable[[T], object]
) -> int:
    """Return the number of round trips of a whole transaction."""
    with ExitStack() as stack:
        with transaction as tx:
            counted = stack.enter_context(counting_round_trips(tx))
            work(tx)
        stack.close()
    return counted[0]


# Servers ------------------------------------------------------------------------------------------


def launch(part: Part) -> None:
    """Start a server that outlives the object that started it. Python warns of this."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        part.launch()


def wait_until_up(part: Part) -> None:
    """Wait until a server answers. It asks the server, as its process may have no name yet."""
    wait_until(part.answers, f"{part.name} to answer")


class MortalValkey:
    """A Valkey server that a test can stop and start again."""

    def __init__(self, server: Valkey) -> None:
        self._server = server

    @property
    def dsn(self) -> str:
        return self._server.dsn

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        launch(self._server)
        wait_until_up(self._server)


# Things -------------------------------------------------------------------------------------------


def event(tenant: UUID, target: str = "t1", number: int = 1, **fields: Any) -> Envelope:
    """Return an event for a target. The same arguments give the same event id."""
    return Envelope.model_validate(
        {
            "event_id": derived_id("test", tenant, target, number),
            "event_type": "thing.happened",
            "tenant_id": tenant,
            "target_id": target,
            "target_type": "thing",
            "trace_id": "0" * 32,
            "payload": {"number": number},
        }
        | fields
    )


def sqs_event(*bodies: str) -> dict[str, Any]:
    """Return the event of an SQS event source; message ids are m0, m1, …"""
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": "handle",
                "body": body,
                "attributes": {},
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:queue",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def retention(what: str) -> Retention:
    """Return a row of the kernel's table of retention."""
    (found,) = [row for row in RETENTIONS if row.what == what]
    return found


def scans_of(relation: str, tx: Transaction, ask: Callable[[], object]) -> list[dict[str, Any]]:
    """Explain the real statements of `ask`, which use `tx.all`; return their scans of a table."""
    original = tx.all
    scans: list[dict[str, Any]] = []

    def explain(kind: Any, query: LiteralString, parameters: Any = ()) -> list[Any]:
        text: LiteralString = "explain (analyze, format json) " + query
        nodes = _nodes(tx.value(text, parameters)[0]["Plan"])
        scans.extend(node for node in nodes if node.get("Relation Name") == relation)
        return []

    tx.all = explain  # type: ignore[method-assign]
    ask()
    tx.all = original  # type: ignore[method-assign]
    assert scans
    return scans


def rows_read(scan: dict[str, Any]) -> int:
    """Return how many rows a scan read, those that it dropped included."""
    read: int = scan["Actual Loops"] * (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0))
    return read


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
