"""V-11, P-07: a ticket gives access to the streams of one batch for a limited time."""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.batches import Fleet
from tests.integration.support import Answer, Client, call, proxy_event, retention

from batches.api import api as routes
from batches.api import handler
from skald.access import tickets
from skald.access.keys import create_api_key
from skald.errors import Unauthenticated
from skald.postgres import Database

STREAMS = ["/progress", "/diagnosis/stream"]


@pytest.fixture
def batch_id(fleet: Fleet) -> UUID:
    """A running batch."""
    return fleet.scattering("a.log")


@pytest.fixture
def ticket(api: Client, batch_id: UUID) -> str:
    """A ticket for its streams."""
    return issue(api, batch_id)


def issue(api: Client, batch_id: UUID) -> str:
    answer = api("POST", f"/batches/{batch_id}/stream-ticket")
    assert answer.status == 201, answer.text
    ticket: str = answer.body["ticket"]
    return ticket


def show(ticket: str | None, path: str, method: str = "GET", **headers: str) -> Answer:
    """Send a request without a key, as a browser does."""
    query = {"wait": "0"} | ({} if ticket is None else {"ticket": ticket})
    return call(handler, proxy_event(method, path, query=query, headers=headers))


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.body["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("stream", STREAMS)
def test_a_ticket_opens_the_streams_of_its_batch(ticket: str, batch_id: UUID, stream: str) -> None:
    """V-11: the EventSource of a browser needs no header, on a page of any origin."""
    answer = show(ticket, f"/batches/{batch_id}{stream}")
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_ticket_expires(
    api: Client, ticket: str, batch_id: UUID, admin: Connection[DictRow]
) -> None:
    """V-11: the ticket has an end, and is refused after it."""
    answer = api("POST", f"/batches/{batch_id}/stream-ticket")
    left = datetime.fromisoformat(answer.body["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= tickets.VALID
    admin.execute(
        "update skald.tickets set expires_at = now() where path like %s", (f"%{batch_id}",)
    )
    assert_refused(show(ticket, f"/batches/{batch_id}/progress"))


def test_a_ticket_ends_with_its_key(
    api: Client,
    api_key: str,
    migrator_database: Database,
    ticket: str,
    fleet: Fleet,
    batch_id: UUID,
) -> None:
    """P-07: after the revocation of a key its tickets are refused.

    So are the tickets that it gets while a process still caches it. Tickets of the tenant's other
    keys stay valid.
    """
    with migrator_database.transaction(None) as tx:
        other_key = create_api_key(tx, fleet.tenant, "other")
        digest = hashlib.sha256(api_key.encode()).digest()
        tx.execute("update skald.api_keys set revoked_at = now() where key_hash = %s", (digest,))
    other = issue(Client(other_key), batch_id)
    path = f"/batches/{batch_id}/progress"
    for revoked in (ticket, issue(api, batch_id)):
        assert_refused(show(revoked, path))
    assert show(other, path).status == 200


@pytest.mark.parametrize("stream", STREAMS)
def test_a_ticket_is_refused_for_another_batch(ticket: str, fleet: Fleet, stream: str) -> None:
    """V-11: neither for another batch of the same tenant nor for one that does not exist."""
    for other in (fleet.scattering("a.log"), uuid4()):
        assert_refused(show(ticket, f"/batches/{other}{stream}"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/files"),
        ("GET", "/report"),
        ("GET", "/report.html"),
        ("POST", "/complete"),
        ("POST", "/cancel"),
        ("POST", "/stream-ticket"),
    ],
)
def test_a_ticket_is_refused_on_other_routes(
    ticket: str, fleet: Fleet, batch_id: UUID, method: str, path: str
) -> None:
    """V-11: it reads a stream; it reads no report, changes nothing, and issues no ticket."""
    assert_refused(show(ticket, f"/batches/{batch_id}{path}", method))
    assert fleet.batch(batch_id).failure_code is None
    assert_refused(show(ticket, "/batches"))


def test_only_streams_take_tickets() -> None:
    """V-11: the OpenAPI document says the same, and a new route does not accept tickets."""
    document = routes.document("Test", "1")
    taking = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if {"Ticket": []} in operation["security"]
    }
    assert taking == {f"/batches/{{batch_id}}{stream}" for stream in STREAMS}
    scheme = document["components"]["securitySchemes"]["Ticket"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "query", "ticket")


def test_a_ticket_is_one_tenants(ticket: str, batch_id: UUID, other_tenant: UUID) -> None:
    """Q-10: a ticket with the name of another tenant is refused."""
    secret = urlsafe_b64decode(ticket)[16:]
    forged = urlsafe_b64encode(other_tenant.bytes + secret).decode()
    assert_refused(show(forged, f"/batches/{batch_id}/progress"))


def test_no_ticket_for_a_foreign_batch(api: Client, foreign_api: Client, batch_id: UUID) -> None:
    """Q-10: the batch of another tenant does not exist."""
    for unknown in (batch_id, uuid4()):
        answer = foreign_api("POST", f"/batches/{unknown}/stream-ticket")
        assert (answer.status, answer.body["detail"]) == (404, "no such batch or file")


@pytest.mark.parametrize(
    "made_up",
    [None, "", "x", "ä", "\ud83d", "=" * 64, "A" * 64, "A" * 63, "A" * 10_000, f" {'A' * 64}"],
)
def test_what_was_never_issued_is_refused(
    database: Database, batch_id: UUID, made_up: str | None
) -> None:
    """P-07: for any invalid ticket the answer is 401 without details."""
    assert_refused(show(made_up, f"/batches/{batch_id}/progress"))
    with pytest.raises(Unauthenticated):
        tickets.redeem(database, made_up or "", f"/batches/{batch_id}/progress")


def test_without_access_a_bad_position_is_not_named(ticket: str, batch_id: UUID) -> None:
    """P-07: without access the answer names no other error of the request; with access it does."""
    path = f"/batches/{batch_id}/progress"
    assert_refused(show("A" * 64, path, **{"Last-Event-ID": "x"}))
    assert show(ticket, path, **{"Last-Event-ID": "x"}).status == 422


def test_a_key_comes_before_a_ticket(ticket: str, batch_id: UUID) -> None:
    """P-07: a valid ticket does not help a request with a wrong key."""
    assert_refused(show(ticket, f"/batches/{batch_id}/progress", **{"X-Api-Key": "skald_wrong"}))


def test_only_a_hash_is_stored(ticket: str, tenant: UUID, admin: Connection[DictRow]) -> None:
    """P-07: an attacker who reads the table gets no ticket from it."""
    row = admin.execute(
        "select encode(ticket_hash, 'base64') as hash, to_jsonb(t)::text as everything"
        " from skald.tickets t where tenant_id = %s",
        (tenant,),
    ).fetchone()
    assert row is not None
    secret = urlsafe_b64decode(ticket)[16:]
    assert secret.hex() not in row["everything"]
    assert ticket not in row["everything"]


def test_a_ticket_is_not_logged(
    ticket: str,
    batch_id: UUID,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    admin: Connection[DictRow],
) -> None:
    """V-11: a ticket is in no log line and no span, in success and in failure."""
    path = f"/batches/{batch_id}/progress"
    assert show(ticket, path).status == 200
    assert_refused(show(ticket, f"/batches/{uuid4()}/progress"))
    monkeypatch.setattr("batches.progress.repository.find_batch", lambda *_: 1 / 0)
    assert show(ticket, path).status == 500
    records = [str(vars(line)) for line in caplog.records]
    told = "".join([caplog.text, *records, *capfd.readouterr()])
    assert "ZeroDivisionError" in told
    assert ticket not in told
    spans = admin.execute(
        "select count(*) as number from skald.trace_spans as span where span::text like %s",
        (f"%{ticket}%",),
    )
    assert spans.fetchone() == {"number": 0}


def test_tickets_that_are_over_are_forgotten(
    api: Client, batch_id: UUID, relay_database: Database, admin: Connection[DictRow]
) -> None:
    """V-11: retention deletes expired tickets and keeps valid ones."""
    old, good = issue(api, batch_id), issue(api, batch_id)
    digest = hashlib.sha256(urlsafe_b64decode(old)[16:]).digest()
    admin.execute(
        "update skald.tickets set expires_at = now() - interval '1 s' where ticket_hash = %s",
        (digest,),
    )
    with relay_database.transaction(None) as tx:
        expired = retention("tickets")
        assert expired.delete(tx, expired.kept) >= 1
    stored = admin.execute("select true from skald.tickets where ticket_hash = %s", (digest,))
    assert stored.fetchone() is None
    assert show(good, f"/batches/{batch_id}/progress").status == 200
