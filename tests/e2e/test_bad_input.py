"""Files that no parser can read, and requests that the API must refuse."""

import json
import struct
from uuid import UUID, uuid4

import pytest
import requests
from tests.e2e import flows
from tests.e2e.conftest import NewTenant, Tenant
from tests.e2e.deployment import Deployment, wait_for

from client.api import Client, Refused

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
ULOG_MAGIC = b"ULog\x01\x12\x35\x01" + struct.pack("<Q", 1_000_000)
"""A header, and then the file ends."""
TRUNCATED_BLF = b"LOGG" + struct.pack("<I", 144) + bytes(40)
BAD = {
    "empty.log": b"",
    "screenshot.log": PNG,
    "cut.ulg": ULOG_MAGIC,
    "cut.blf": TRUNCATED_BLF,
}


def test_bad_files_leave_a_partial_report(skald: Deployment, tenant: Tenant) -> None:
    """V-04, V-06: a batch with bad files completes with the good one; each bad one has a reason."""
    batch_id = flows.open_batch(tenant, BAD | {"good.log": flows.lines(50, errors=3)})
    tenant.client.complete(batch_id)
    counts = dict.fromkeys(BAD, 0) | {"good.log": 50}
    report = flows.assert_ended_once(skald, tenant, batch_id, events=counts)
    assert report["outcome"] == "partial"
    reasons = {row["name"]: row["reason"] for row in report["statistics"]["files"]}
    assert reasons.pop("good.log") is None
    assert reasons["empty.log"] == "the file is empty"
    assert "PNG" in reasons["screenshot.log"]
    assert all(reasons[name] for name in BAD)
    assert report["statistics"]["errors"] == 3


def test_batch_of_bad_files_fails(skald: Deployment, tenant: Tenant) -> None:
    """V-06: when no file can be parsed the batch fails with a reason.

    It has no report and leaves no artifacts.
    """
    batch_id = flows.open_batch(tenant, BAD)
    tenant.client.complete(batch_id)
    batch = flows.wait_until_ended(tenant, batch_id)
    assert (batch["status"], batch["failure_code"]) == ("failed", "nothing_parsed")
    assert batch["failed_files"] == batch["processed_files"] == len(BAD)
    files = {file["name"]: file for file in tenant.client.files(batch_id)}
    assert all(files[name]["status"] == "failed" and files[name]["reason"] for name in BAD)
    for path in ("report", "report.html"):
        with pytest.raises(Refused) as refused:
            tenant.client.call("GET", f"/batches/{batch_id}/{path}")
        assert (refused.value.status, refused.value.problem["batch_status"]) == (409, "failed")
    with pytest.raises(Refused) as refused:
        tenant.client.complete(batch_id)
    assert refused.value.status == 409
    flows.assert_told_once(skald, batch, "batch.failed")
    assert skald.events(batch_id, "batch.completed") == []
    assert skald.stored("ArtifactsBucket", f"batches/{tenant.tenant_id}/{batch_id}/") == []
    wait_for("pipeline's end", lambda: skald.execution(batch_id)["status"] != "RUNNING")
    assert skald.execution(batch_id)["status"] == "FAILED"


def test_batch_without_files(tenant: Tenant) -> None:
    """V-03: a batch without files cannot be completed and has no report yet."""
    batch_id = tenant.client.open_batch("empty")
    with pytest.raises(Refused) as refused:
        tenant.client.complete(batch_id)
    assert (refused.value.status, refused.value.problem["missing_files"]) == (409, [])
    with pytest.raises(Refused) as refused:
        tenant.client.report(batch_id)
    assert (refused.value.status, refused.value.problem["batch_status"]) == (409, "pending")


def test_cancel_in_the_middle(skald: Deployment, tenant: Tenant) -> None:
    """V-03: a cancelled batch fails as `cancelled`, its pipeline stops, its artifacts are deleted.

    A parse job that comes later leaves nothing.
    """
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(20), "b.log": flows.lines(20)})
    with skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        batch = tenant.client.cancel(batch_id)
        assert (batch["status"], batch["failure_code"]) == ("failed", "cancelled")
        wait_for("outbox without unsent rows", lambda: not flows.unsent(skald, batch_id))
        wait_for("stop of the pipeline", lambda: skald.is_empty("PipelineQueue"))
        # LocalStack stops an execution only after its wait. On AWS this token is gone already.
        flows.answer_token(skald, batch_id)
        wait_for("stop of the pipeline", lambda: skald.execution(batch_id)["status"] == "ABORTED")
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert {task["attempts"] for task in flows.tasks(skald, batch_id).values()} == {0}
    assert tenant.client.cancel(batch_id)["failure_code"] == "cancelled"
    assert skald.stored("ArtifactsBucket", f"batches/{tenant.tenant_id}/{batch_id}/") == []
    wait_for("outbox without unsent rows", lambda: not flows.unsent(skald, batch_id))
    assert skald.events(batch_id, "batch.completed") == []


def test_completed_batch_cannot_be_cancelled(skald: Deployment, tenant: Tenant) -> None:
    """V-03: the report stays; a second completion only returns the state of the batch."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(5)})
    tenant.client.complete(batch_id)
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 5})
    with pytest.raises(Refused) as refused:
        tenant.client.cancel(batch_id)
    assert refused.value.status == 409
    assert tenant.client.complete(batch_id)["status"] == "completed"
    with pytest.raises(Refused) as refused:
        tenant.client.register(batch_id, "late.log", 1)
    assert refused.value.status == 409


ROUTES = (
    ("GET", ""),
    ("POST", "/files"),
    ("GET", "/files"),
    ("GET", "/files/{file}/parts"),
    ("POST", "/files/{file}/complete"),
    ("POST", "/complete"),
    ("POST", "/cancel"),
    ("GET", "/progress"),
    ("GET", "/report"),
    ("GET", "/report.html"),
)


def test_other_tenants_see_nothing(skald: Deployment, new_tenant: NewTenant) -> None:
    """Tenancy: on every route the batch of another tenant does not exist, and does not change."""
    owner, stranger = new_tenant(), new_tenant()
    batch_id = flows.open_batch(owner, {"a.log": flows.lines(5)})
    file_id = owner.client.files(batch_id)[0]["file_id"]
    before = owner.client.batch(batch_id)
    for method, path in ROUTES:
        body = {"name": "x.log", "size": 1} if (method, path) == ("POST", "/files") else None
        with pytest.raises(Refused) as refused:
            stranger.client.call(
                method, f"/batches/{batch_id}{path.format(file=file_id)}", json=body
            )
        assert (refused.value.status, refused.value.problem["code"]) == (404, "not_found"), path
    listed = stranger.client.call("GET", "/batches").json()
    assert (listed["total"], listed["items"]) == (0, [])
    assert owner.client.batch(batch_id) == before
    owner.client.complete(batch_id)
    flows.assert_ended_once(skald, owner, batch_id, events={"a.log": 5})
    with pytest.raises(Refused) as refused:  # also when the report is cached
        stranger.client.report(batch_id)
    assert refused.value.status == 404


@pytest.mark.parametrize("key", ["", "skald_wrong", "Bearer", "ä", "skald_" + "x" * 2_000])
def test_wrong_keys(skald: Deployment, key: str) -> None:
    """Tenancy: without a known key every route answers 401."""
    for method, path in (("GET", "/batches"), *((m, f"/batches/{uuid4()}{p}") for m, p in ROUTES)):
        url = skald.api_url + path.format(file=uuid4())
        headers = {"X-Api-Key": key.encode()}
        answer = requests.request(method, url, headers=headers, timeout=30)
        assert answer.status_code == 401, path
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["Content-Type"] == "application/problem+json"


IDS = ("x", "1", str(UUID(int=0)), "%00", "..", "' or 1=1 --", "ä", "0" * 300)
NOT_JSON = (b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"{}", b'{"name": ' + b"[" * 5_000)
BODIES = {
    "/batches": (
        *NOT_JSON,
        b'{"name": ""}',
        b'{"name": null}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"name": "x", "timeout_seconds": 4}',
        b'{"name": "x", "timeout_seconds": 1e400}',
        b'{"name": "x", "timeout_seconds": "soon"}',
        json.dumps({"name": "x" * 201}).encode(),
    ),
    "/batches/{batch}/files": (
        *NOT_JSON,
        b'{"name": "x"}',
        b'{"name": "../x", "size": 1}',
        b'{"name": "..", "size": 1}',
        b'{"name": "a\\u0000b", "size": 1}',
        b'{"name": "\\ud800", "size": 1}',
        b'{"name": "x", "size": -1}',
        b'{"name": "x", "size": "big"}',
        b'{"name": "x", "size": 99999999999999999999}',
        json.dumps({"name": "x" * 201, "size": 1}).encode(),
    ),
}


@pytest.mark.parametrize("batch_id", IDS)
def test_malformed_ids(tenant: Tenant, batch_id: str) -> None:
    """Errors: a malformed or unknown id is refused as a problem with a code, never a 5xx."""
    for method, path in ROUTES:
        body = {"name": "x.log", "size": 1} if (method, path) == ("POST", "/files") else None
        with pytest.raises(Refused) as refused:
            tenant.client.call(
                method, f"/batches/{batch_id}{path.format(file=batch_id)}", json=body
            )
        assert refused.value.status in (400, 403, 404, 405, 422), path


@pytest.mark.parametrize("path", BODIES)
def test_malformed_bodies(tenant: Tenant, path: str) -> None:
    """Errors: a malformed body is refused with 4xx and a code; nothing is written."""
    batch_id = tenant.client.open_batch("victim")
    for body in BODIES[path]:
        with pytest.raises(Refused) as refused:
            tenant.client.call(
                "POST",
                path.format(batch=batch_id),
                data=body,
                headers={"Content-Type": "application/json"},
            )
        assert refused.value.status in (400, 422), (body[:60], refused.value)
        assert refused.value.problem["code"] in ("malformed", "invalid_input")
    listed = tenant.client.call("GET", "/batches").json()
    assert [batch["batch_id"] for batch in listed["items"]] == [str(batch_id)]
    assert tenant.client.files(batch_id) == []


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page_size=101", "status=nonsense", "page=99999999999999999999"]
)
def test_malformed_queries(tenant: Tenant, query: str) -> None:
    """Errors: a malformed query of a list is refused with 422."""
    with pytest.raises(Refused) as refused:
        tenant.client.call("GET", f"/batches?{query}")
    assert refused.value.status == 422


def test_unknown_routes_and_methods(tenant: Tenant) -> None:
    """Errors: an unknown path or method is a problem document."""
    for method, path in (
        ("GET", "/batches/x/y/z"),
        ("DELETE", "/batches"),
        ("PUT", f"/batches/{uuid4()}"),
    ):
        with pytest.raises(Refused) as refused:
            tenant.client.call(method, path)
        assert refused.value.status in (404, 405)
        assert refused.value.problem["code"] in ("not_found", "method_not_allowed")


def test_client_with_an_unknown_key(skald: Deployment) -> None:
    """Tenancy: a key that was never issued opens no batch."""
    client = Client(skald.api_url, "skald_" + "0" * 43)
    with pytest.raises(Refused) as refused:
        client.open_batch("x")
    client.session.close()
    assert refused.value.status == 401
