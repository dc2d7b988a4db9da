"""G-09, G-15: an invocation stores its spans in one statement, also when its work failed."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.conftest import Context
from tests.integration.support import event, sqs_event, together

from skald.entrypoints.consumer import consumer
from skald.entrypoints.entry import entry
from skald.messaging import Envelope
from skald.postgres import Database
from skald.telemetry import Kind, current_span_id, logger, span, spans
from skald.telemetry.trace import TraceContext, context_of_headers, new_context
from skald.traces import store


@pytest.fixture(autouse=True)
def _environment(environment: None) -> None:
    """The environment of a function."""


def stored(database: Database, tenant: UUID) -> list[dict[str, Any]]:
    with database.transaction(tenant) as tx:
        return list(tx.execute("select * from skald.trace_spans order by start_time, kind desc"))


def test_spans_nest_and_share_the_trace(database: Database, tenant: UUID) -> None:
    """G-09: spans have their parents and one trace id."""
    with entry(Kind.STEP, "outer", new_context(), tenant_id=tenant) as outer:
        with span(Kind.DATABASE, "inner", rows=3) as inner:
            assert current_span_id() == inner.span_id
        assert current_span_id() == outer.span_id

    rows = {row["name"]: row for row in stored(database, tenant)}
    assert rows["inner"]["parent_span_id"] == rows["outer"]["span_id"]
    assert rows["inner"]["trace_id"] == rows["outer"]["trace_id"] == outer.trace_id
    assert rows["outer"]["parent_span_id"] is None
    assert rows["inner"]["attributes"] == {"rows": 3}


def test_a_rolled_back_transaction_keeps_its_spans(database: Database, tenant: UUID) -> None:
    """G-09: a failed attempt is visible in its trace."""

    def work() -> None:
        with (
            entry(Kind.STEP, "doomed", new_context(), tenant_id=tenant),
            database.transaction(tenant),
            span(Kind.DATABASE, "write"),
        ):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()

    assert [(row["name"], row["status"]) for row in stored(database, tenant)] == [
        ("doomed", "error"),
        ("write", "error"),
    ]
    assert stored(database, tenant)[0]["attributes"] == {"error.type": "ZeroDivisionError"}


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[UUID | None]:
    """The tenants of the transactions that were opened."""
    opened: list[UUID | None] = []
    transaction = Database.transaction

    def counted(self: Database, tenant_id: UUID | None) -> Any:
        opened.append(tenant_id)
        return transaction(self, tenant_id)

    monkeypatch.setattr(Database, "transaction", counted)
    return opened


def test_an_invocation_commits_its_spans_once(
    database: Database, tenant: UUID, transactions: list[UUID | None]
) -> None:
    """G-09: all spans share one commit; without spans of a tenant there is no commit."""
    with entry(Kind.STEP, "busy", new_context(), tenant_id=tenant):
        for number in range(50):
            with span(Kind.DATABASE, "write", number=number):
                pass
    with entry(Kind.SCHEDULE, "idle", new_context()):
        pass

    assert transactions == [tenant]
    assert len(stored(database, tenant)) == 51


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The warnings that were logged, with their fields."""
    logged: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(logger, "warning", lambda text, extra: logged.append((text, extra)))
    return logged


def test_lost_spans_do_not_fail_the_work(
    tenant: UUID, monkeypatch: pytest.MonkeyPatch, warnings: list[tuple[str, dict[str, Any]]]
) -> None:
    """G-09: a failure of tracing never fails the work."""

    def broken(*_: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(store, "insert", broken)
    monkeypatch.setattr(spans, "SLOW_SECONDS", 3600.0)
    with entry(Kind.STEP, "work", new_context(), tenant_id=tenant):
        pass
    assert warnings == [("spans are lost", {"spans": 1, "error": "gone"})]


def test_a_slow_span_raises_the_alarm(
    capsys: pytest.CaptureFixture[str], warnings: list[tuple[str, dict[str, Any]]]
) -> None:
    """G-09: a span over 500 ms is slow; exactly 500 ms is not."""
    in_time = spans.Span("1" * 32, "2" * 16, None, Kind.DATABASE, "in time", 0, 500_000_000)
    spans.finish(in_time)
    assert warnings == []
    assert "slow_spans_count" not in capsys.readouterr().out

    spans.finish(replace(in_time, name="late", end_unix_nano=501_000_000))
    assert warnings == [
        ("span is slow", {"span": "late", "span_kind": Kind.DATABASE, "seconds": 0.501})
    ]
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(line.get("slow_spans_count") == [1.0] for line in told)
    assert any(line.get("trace_span_duration") == [0.501] for line in told)


def test_a_foreign_tenant_sees_no_spans(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: neither the spans nor their totals."""
    with entry(Kind.STEP, "secret", new_context(), tenant_id=tenant):
        pass
    with database.transaction(other_tenant) as tx:
        assert tx.value("select count(*) from skald.trace_spans") == 0
        assert tx.value("select count(*) from skald.span_totals") == 0
    assert len(stored(database, tenant)) == 1


def test_totals_count_a_span_once(database: Database, tenant: UUID) -> None:
    """G-17: the histogram counts stored spans, and a span that is sent twice is stored once."""
    told = spans.Span(
        "1" * 32, "2" * 16, None, Kind.STEP, "grade", 0, 300_000_000, tenant_id=tenant
    )
    slowest = spans.Span("1" * 32, "3" * 16, None, Kind.STEP, "grade", 0, 10**12, tenant_id=tenant)
    store.insert(database, [told])
    store.insert(database, [told, slowest])
    with database.transaction(tenant) as tx:
        rows = list(tx.execute("select bucket, spans, seconds from skald.span_totals order by 1"))
    assert rows == [
        {"bucket": 0.5, "spans": 1, "seconds": 0.3},
        {"bucket": float("inf"), "spans": 1, "seconds": 1000.0},
    ]


def test_invocations_that_end_at_once_do_not_deadlock(database: Database, tenant: UUID) -> None:
    """G-17: two transactions lock totals in the same order, so they cannot deadlock."""
    names = [f"step {number}" for number in range(20)]

    def run(order: list[str]) -> None:
        for _ in range(10):
            store.insert(
                database,
                [
                    spans.Span(
                        "1" * 32, uuid4().hex[:16], None, Kind.STEP, name, 0, 1, tenant_id=tenant
                    )
                    for name in order
                ],
            )

    together(lambda: run(names), lambda: run(names[::-1]), lambda: run(names))
    with database.transaction(tenant) as tx:
        assert tx.value("select sum(spans) from skald.span_totals") == 600


@pytest.fixture
def slow_queue() -> dict[str, str]:
    """The attributes that SQS gives a message that waited four seconds in the queue."""
    sent = int(datetime.now(UTC).timestamp() * 1000)
    return {"SentTimestamp": str(sent), "ApproximateFirstReceiveTimestamp": str(sent + 4000)}


def test_a_message_shows_its_way(
    database: Database, tenant: UUID, slow_queue: dict[str, str]
) -> None:
    """G-09: outbox, queue and consumer are below the span that published, also when redelivered."""
    seen: list[Envelope] = []

    @consumer
    def note(envelope: Envelope) -> None:
        seen.append(event(tenant, number=2, trace_id=envelope.trace_id))

    received = datetime.fromtimestamp(int(slow_queue["SentTimestamp"]) / 1000, UTC)
    with entry(Kind.HTTP, "POST /things", new_context(), tenant_id=tenant) as request:
        sent = event(tenant, trace_id=request.trace_id, timestamp=received - timedelta(seconds=2))
    message = sqs_event(sent.model_dump_json())
    message["Records"][0]["attributes"] = slow_queue
    note(message, Context())
    note(message, Context())

    rows = stored(database, tenant)
    by_id = {row["span_id"]: row for row in rows}
    assert sorted(row["kind"] for row in rows) == [
        "consumer",
        "consumer",
        "http",
        "outbox",
        "queue",
    ]
    assert {row["trace_id"] for row in rows} == {request.trace_id}
    for row in rows:
        if row["kind"] == "consumer":
            queue = by_id[row["parent_span_id"]]
            outbox = by_id[queue["parent_span_id"]]
            assert (queue["kind"], outbox["kind"]) == ("queue", "outbox")
            assert outbox["parent_span_id"] == request.span_id
            assert queue["duration_ms"] == pytest.approx(4000)
            assert outbox["duration_ms"] == pytest.approx(2000)
    consumers = [row["span_id"] for row in rows if row["kind"] == "consumer"]
    assert [envelope.parent_span_id for envelope in seen] == consumers


def test_messages_of_several_tenants_stay_separate(
    database: Database, tenant: UUID, other_tenant: UUID, transactions: list[UUID | None]
) -> None:
    """Q-03: a batch of messages stores each tenant's spans as that tenant, in one statement."""

    @consumer
    def note(_: Envelope) -> None:
        pass

    messages = [event(t).model_dump_json() for t in (tenant, other_tenant, tenant)]
    note(sqs_event(*messages), Context())
    assert sorted(map(str, transactions)) == sorted([str(tenant), str(other_tenant)])
    assert len(stored(database, tenant)) == 2
    assert len(stored(database, other_tenant)) == 1


def test_spans_reach_a_collector(
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-09: spans are sent as OTLP over HTTP, in addition to PostgreSQL."""
    received: list[tuple[str, Any]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.handle_request).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with entry(Kind.HTTP, "GET /things", new_context(), tenant_id=tenant) as own:
            own.status = "error"

    [(path, body)] = received
    [told] = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert path == "/v1/traces"
    assert (told["traceId"], told["spanId"], told["kind"]) == (own.trace_id, own.span_id, 2)
    assert told["status"] == {"code": 2}
    assert int(told["endTimeUnixNano"]) == own.end_unix_nano
    assert len(stored(database, tenant)) == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01", TraceContext("a" * 32, "b" * 16)),
        (f"00-{'0' * 32}-{'b' * 16}-01", None),
        (f"00-{'a' * 32}-{'0' * 16}-01", None),
        (f"ff-{'a' * 32}-{'b' * 16}-01", None),
        ("garbage", None),
    ],
)
def test_traceparent(header: str, expected: TraceContext | None) -> None:
    """G-09: a trace of the caller continues; an invalid W3C trace context starts a new trace."""
    found = context_of_headers({"traceparent": header})
    if expected is None:
        assert found.span_id is None
        assert len(found.trace_id) == 32
    else:
        assert found == expected


def test_threads_do_not_mix_their_spans(database: Database, tenant: UUID) -> None:
    """G-09: work in a thread beside the invocation is not a part of its trace."""
    done = threading.Event()

    def other() -> None:
        with span(Kind.DATABASE, "elsewhere"):
            done.set()

    with entry(Kind.STEP, "here", new_context(), tenant_id=tenant):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert done.is_set()
    assert [row["name"] for row in stored(database, tenant)] == ["here"]
