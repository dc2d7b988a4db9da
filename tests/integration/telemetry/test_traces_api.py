"""G-09, G-17, W-08: traces, event chains, progress and metrics as a tenant sees them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import redis
from tests.conftest import Context
from tests.integration.support import Answer, call, event, proxy_event, retention, sqs_event

from operations.traces import handler
from skald import pools
from skald.entrypoints.consumer import consumer
from skald.entrypoints.entry import entry
from skald.messaging import Envelope, outbox
from skald.postgres import Database
from skald.saga.progress import WorkflowProgress
from skald.telemetry import Kind, span, spans
from skald.telemetry.trace import TraceContext, new_context
from skald.traces import store

type Get = Callable[..., Answer]
START = datetime.now(UTC)


def getter(key: str) -> Get:
    def get(path: str, **query: str) -> Answer:
        return call(handler, proxy_event("GET", path, query=query, headers={"X-Api-Key": key}))

    return get


@pytest.fixture
def get(database: Database, api_key: str) -> Get:
    return getter(api_key)


@pytest.fixture
def foreign_get(database: Database, other_api_key: str) -> Get:
    return getter(other_api_key)


def publish(database: Database, *events: Envelope) -> None:
    for envelope in events:
        with database.transaction(envelope.tenant_id) as tx:
            outbox.publish(tx, envelope)


# Traces -------------------------------------------------------------------------------------------


def test_a_trace_is_listed_from_its_root(get: Get, tenant: UUID) -> None:
    """G-09: depth first, each span below its parent."""
    with entry(Kind.HTTP, "POST /things", new_context(), tenant_id=tenant) as root:
        with span(Kind.DATABASE, "write"), span(Kind.DATABASE, "index"):
            pass
        with span(Kind.STORAGE, "s3 write"):
            pass
    told = get(f"/traces/{root.trace_id}").body
    assert [(row["depth"], row["name"]) for row in told["spans"]] == [
        (0, "POST /things"),
        (1, "write"),
        (2, "index"),
        (1, "s3 write"),
    ]
    assert told["slow_spans"] == 0


def test_spans_without_their_parent_are_listed(database: Database, get: Get, tenant: UUID) -> None:
    """G-09: a span of the caller, a lost span, and two spans that are each other's child."""

    def stored(span_id: str, parent: str | None) -> spans.Span:
        return spans.Span("a" * 32, span_id, parent, Kind.STEP, span_id, 0, 1, tenant_id=tenant)

    store.insert(
        database, [stored("lost", "elsewhere"), stored("egg", "hen"), stored("hen", "egg")]
    )
    told = get(f"/traces/{'a' * 32}").body["spans"]
    assert sorted(row["name"] for row in told) == ["egg", "hen", "lost"]


def test_foreign_and_unknown_traces_do_not_exist(get: Get, foreign_get: Get, tenant: UUID) -> None:
    """Q-03: neither by id nor in the list."""
    with entry(Kind.STEP, "secret", new_context(), tenant_id=tenant) as own:
        pass
    assert get(f"/traces/{own.trace_id}").status == 200
    assert foreign_get(f"/traces/{own.trace_id}").status == 404
    names = [item["name"] for item in foreign_get("/traces").body["items"]]
    assert "secret" not in names
    assert get(f"/traces/{'0' * 32}").status == 404
    assert get("/traces/nonsense").status == 422


def test_slow_spans_are_listed(database: Database, get: Get, tenant: UUID) -> None:
    """G-09: the list takes the same parameters as every other list."""
    quick = spans.Span("b" * 32, "1" * 16, None, Kind.STEP, "quick", 0, 10**6, tenant_id=tenant)
    slow = spans.Span("b" * 32, "2" * 16, None, Kind.STEP, "slow", 0, 10**9, tenant_id=tenant)
    store.insert(database, [quick, slow])
    listed = get("/traces", filter="duration_ms:gt:500", fields="name,duration_ms").body
    assert listed["items"] == [{"name": "slow", "duration_ms": 1000.0}]
    assert get(f"/traces/{'b' * 32}").body["slow_spans"] == 1


# Chains -------------------------------------------------------------------------------------------


def test_a_chain_shows_causes_in_order_and_marks_slow_links(
    database: Database, get: Get, tenant: UUID
) -> None:
    """W-08: A → B → C by causation, and D after A; a link of 500 ms or more is slow."""

    def caused(cause: Envelope, kind: str, milliseconds: int) -> Envelope:
        later = cause.timestamp + timedelta(milliseconds=milliseconds)
        return cause.caused(kind, {}).model_copy(update={"timestamp": later})

    a = event(tenant, timestamp=START, correlation_id="order-7")
    b = caused(a, "thing.judged", 300)
    c = caused(b, "thing.published", 501)
    d = caused(a, "thing.mailed", 700)
    publish(database, a, b, c, d, event(tenant, target="elsewhere"))

    for member in (a, b, c, d):
        chain = get(f"/events/{member.event_id}/chain").body
        assert [(link["depth"], link["event_type"]) for link in chain["events"]] == [
            (0, "thing.happened"),
            (1, "thing.judged"),
            (2, "thing.published"),
            (1, "thing.mailed"),
        ]
        assert [link["seconds_after_cause"] for link in chain["events"]] == [None, 0.3, 0.501, 0.7]
        assert [link["is_slow"] for link in chain["events"]] == [False, False, True, True]
        assert chain["slow_links"] == 2


def test_an_event_without_a_correlation_takes_its_causes(
    database: Database, get: Get, tenant: UUID
) -> None:
    """W-08: it is in the chain of its causes, though a publisher did not pass the id on."""
    first = event(tenant)
    second = first.caused("thing.judged", {})
    publish(database, first, second)
    chain = get(f"/events/{second.event_id}/chain").body["events"]
    assert [link["event_id"] for link in chain] == [str(first.event_id), str(second.event_id)]


def test_a_cause_that_was_not_named_is_found_in_the_trace(
    database: Database, get: Get, tenant: UUID
) -> None:
    """W-08: an event that a consumer publishes after some steps is an effect of its event."""
    first = event(tenant, correlation_id="order-8", trace_id="c" * 32)
    second = event(tenant, number=2, correlation_id="order-8")

    @consumer
    def note(_: Envelope) -> None:
        with span(Kind.WORKFLOW, "saga"), span(Kind.STEP, "publish") as own:
            sent = second.model_copy(update={"parent_span_id": own.span_id, "trace_id": "c" * 32})
            publish(database, sent)

    publish(database, first)
    note(sqs_event(first.model_dump_json()), Context())
    chain = get(f"/events/{first.event_id}/chain").body["events"]
    assert [link["causation_id"] for link in chain] == [None, str(first.event_id)]


def test_a_rolled_back_event_is_in_no_chain(database: Database, get: Get, tenant: UUID) -> None:
    """W-08: an event that was not published caused nothing."""
    doomed = event(tenant)

    def work() -> None:
        with database.transaction(tenant) as tx:
            outbox.publish(tx, doomed)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert get(f"/events/{doomed.event_id}/chain").status == 404


def test_a_foreign_chain_does_not_exist(
    database: Database, foreign_get: Get, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: also when an event names an event of another tenant as its cause."""
    first = event(tenant)
    stranger = event(other_tenant, causation_id=first.event_id, correlation_id="x")
    publish(database, first, stranger)
    assert foreign_get(f"/events/{first.event_id}/chain").status == 404
    chain = foreign_get(f"/events/{stranger.event_id}/chain").body["events"]
    assert [link["event_id"] for link in chain] == [str(stranger.event_id)]


# Progress, metrics, retention ---------------------------------------------------------------------


def test_progress(database: Database, get: Get, tenant: UUID, valkey: redis.Redis) -> None:
    """G-14: stage, percentage and time."""
    with database.transaction(tenant) as tx:
        WorkflowProgress(valkey).report(tx, "w9", "grading", 25, question=3)
    told = get("/workflows/w9/progress").body
    assert (told["stage"], told["percentage"], told["details"]) == ("grading", 25, {"question": 3})
    assert datetime.fromisoformat(told["updated_at"]) > START
    assert get("/workflows/unknown/progress").status == 404


def test_metrics(
    database: Database,
    get: Get,
    foreign_get: Get,
    tenant: UUID,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G-17, P-09: the metric names of the sources, with the figures of this tenant only."""
    monkeypatch.setattr(pools, "publish", lambda: None)  # perhaps published just before
    valkey.set("pool_stats:pg", '{"active": 3}', ex=60)
    publish(database, event(tenant))
    quick = spans.Span(
        "d" * 32, "1" * 16, None, Kind.HTTP, "POST /things", 0, 40_000_000, tenant_id=tenant
    )
    store.insert(database, [quick])
    lines = get("/metrics").text.splitlines()
    for line in (
        'outbox_events{status="pending"} 1.0',
        'persistence_api_requests_total{method="POST",endpoint="/things",status="ok"} 1.0',
        'persistence_api_duration_seconds_bucket{method="POST",endpoint="/things",le="0.025"} 0',
        'persistence_api_duration_seconds_bucket{method="POST",endpoint="/things",le="0.05"} 1.0',
        'persistence_api_duration_seconds_bucket{method="POST",endpoint="/things",le="+Inf"} 1.0',
        'persistence_api_duration_seconds_sum{method="POST",endpoint="/things"} 0.04',
        'trace_span_duration_count{span_kind="http",status="ok"} 1.0',
        'pool_connections_active{pool_type="pg"} 3',
        "# TYPE saga_transaction_duration histogram",
    ):
        assert line in lines
    assert "/things" not in foreign_get("/metrics").text


def test_what_is_old_is_forgotten(
    database: Database, relay_database: Database, tenant: UUID
) -> None:
    """G-15: rows of all tenants are deleted after two weeks; younger rows stay."""
    old = spans.Span("e" * 32, "1" * 16, None, Kind.STEP, "old", 0, 1, tenant_id=tenant)
    store.insert(database, [old])
    with entry(Kind.STEP, "young", TraceContext("e" * 32, None), tenant_id=tenant):
        pass

    old_spans = retention("spans")
    with relay_database.transaction(None) as tx:
        old_spans.delete(tx, old_spans.kept)
    with database.transaction(tenant) as tx:
        assert tx.value("select array_agg(name) from skald.trace_spans") == ["young"]
