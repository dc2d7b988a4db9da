"""V-01, V-02, V-10, V-11, Q-10: the HTTP routes of batches, as API Gateway calls them."""

import base64
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
import requests
from tests.integration.batches import Fleet
from tests.integration.conftest import UPLOADS
from tests.integration.support import Answer, Client, call, proxy_event, together

from batches import api as routes
from batches import artifacts, repository
from batches.domain import BatchStatus
from skald.access.keys import Principal
from skald.aws import client
from skald.postgres import Database
from skald.storage import multipart
from skald.storage.files import PART_BYTES
from skald.storage.objects import ARTIFACTS

BODY = b"12345"


@pytest.fixture(autouse=True)
def fresh_valkey(valkey: redis.Redis) -> None:
    """Redis is empty when a test begins."""
    valkey.flushdb()


def register(api: Client, batch_id: str, name: str = "a.log", size: int = len(BODY)) -> Any:
    answer = api("POST", f"/batches/{batch_id}/files", {"name": name, "size": size})
    assert answer.status == 201, answer.text
    return answer.body


def send(part: dict[str, Any], body: bytes = BODY) -> None:
    """PUT a part to its signed URL, as a client does."""
    assert requests.put(part["url"], data=body, timeout=5).status_code == 200


def complete_file(api: Client, batch_id: str, upload: dict[str, Any]) -> Answer:
    return api("POST", f"/batches/{batch_id}/files/{upload['file_id']}/complete")


def events_of(database: Database, tenant: UUID) -> list[tuple[str, dict[str, Any]]]:
    with database.transaction(tenant) as tx:
        rows = tx.execute("select event_type, envelope from skald.outbox order by position")
        return [(row["event_type"], row["envelope"]) for row in rows]


def assert_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Check the form of a refusal and return its document."""
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.body
    assert document["code"] == code
    assert document["status"] == status
    assert document["type"] == f"urn:skald:problem:{code}"
    assert document["trace_id"] == answer.headers["x-trace-id"]
    assert document["detail"]
    return document


# The two-phase upload -----------------------------------------------------------------------------


def test_the_whole_upload(api: Client, database: Database, tenant: UUID) -> None:
    """V-01, V-02: open, register, PUT, complete; then the outbox has one event for the pipeline."""
    batch_id = api.open_batch(timeout_seconds=60)
    upload = register(api, batch_id)
    assert (upload["parts_total"], upload["arrived"]) == (1, [])
    send(upload["missing"][0])
    file = complete_file(api, batch_id, upload)
    assert file.status == 200
    assert file.body["arrived_at"]
    assert file.body["size"] == len(BODY)
    assert "upload_id" not in file.body
    assert events_of(database, tenant) == [], "nothing is processed yet"

    for _ in range(2):
        answer = api("POST", f"/batches/{batch_id}/complete")
        assert (answer.status, answer.body["status"]) == (202, "uploaded")
    ((event_type, envelope),) = events_of(database, tenant)
    assert event_type == "batch.uploaded"
    assert envelope["payload"] == {"batch_id": batch_id, "timeout_seconds": 60}
    assert envelope["trace_id"] == answer.body["trace_id"], "the pipeline has the batch's trace"

    stored = client("s3").get_object(Bucket=UPLOADS, Key=f"batches/{tenant}/{batch_id}/a.log")
    assert stored["Body"].read() == BODY


def test_a_broken_upload_resumes_with_what_is_missing(api: Client) -> None:
    """V-02: parts are 5 MiB; a second registration names the missing parts and their URLs."""
    batch_id = api.open_batch()
    size = 2 * PART_BYTES + 5
    upload = register(api, batch_id, size=size)
    assert [part["size"] for part in upload["missing"]] == [PART_BYTES, PART_BYTES, 5]
    send(upload["missing"][1], b"b" * PART_BYTES)
    send(upload["missing"][2])

    for resumed in (
        register(api, batch_id, size=size),
        api("GET", f"/batches/{batch_id}/files/{upload['file_id']}/parts").body,
    ):
        assert resumed["arrived"] == [2, 3]
        assert [part["number"] for part in resumed["missing"]] == [1]
    refused = assert_problem(complete_file(api, batch_id, upload), 409, "conflict")
    assert refused["missing_parts"] == [1]

    send(resumed["missing"][0], b"a" * PART_BYTES)
    assert complete_file(api, batch_id, upload).body["size"] == size
    for _ in range(2):
        assert complete_file(api, batch_id, upload).status == 200, "completing again is fine"
    parts = api("GET", f"/batches/{batch_id}/files/{upload['file_id']}/parts").body
    assert (parts["arrived"], parts["missing"]) == ([1, 2, 3], [])


def test_an_empty_file_is_one_empty_part(api: Client) -> None:
    """V-02: a file of no bytes can be uploaded too."""
    batch_id = api.open_batch()
    upload = register(api, batch_id, size=0)
    send(upload["missing"][0], b"")
    assert complete_file(api, batch_id, upload).body["size"] == 0


def test_a_completion_whose_answer_got_lost_can_be_repeated(
    api: Client, fleet: Fleet, tenant: UUID
) -> None:
    """V-02: S3 has completed the file and its row has not: every route handles this."""
    batch_id = api.open_batch()
    upload = register(api, batch_id)
    send(upload["missing"][0])
    with fleet.database.transaction(tenant) as tx:
        file = repository.FILES.find(tx, UUID(batch_id), UUID(upload["file_id"]))
    assert file is not None
    assert multipart.finish(file) == []  # the function died here

    parts = api("GET", f"/batches/{batch_id}/files/{upload['file_id']}/parts")
    assert parts.status == 200, parts.text
    assert (parts.body["arrived"], parts.body["missing"]) == ([1], [])
    assert register(api, batch_id)["missing"] == []
    assert complete_file(api, batch_id, upload).body["arrived_at"]


def test_an_expired_upload_starts_again(api: Client) -> None:
    """V-02: a registration after the upload has expired gives URLs that work."""
    batch_id = api.open_batch()
    upload = register(api, batch_id)
    key = f"{batch_id}/a.log"
    (pending,) = [
        found
        for found in client("s3").list_multipart_uploads(Bucket=UPLOADS)["Uploads"]
        if found["Key"].endswith(key)
    ]
    client("s3").abort_multipart_upload(
        Bucket=UPLOADS, Key=pending["Key"], UploadId=pending["UploadId"]
    )
    assert_problem(
        api("GET", f"/batches/{batch_id}/files/{upload['file_id']}/parts"), 409, "upload_gone"
    )
    assert_problem(complete_file(api, batch_id, upload), 409, "upload_gone")
    send(register(api, batch_id)["missing"][0])
    assert complete_file(api, batch_id, upload).status == 200


def test_another_size_under_the_same_name_is_refused(api: Client) -> None:
    """V-02: a resumed upload must be of the same file."""
    batch_id = api.open_batch()
    register(api, batch_id, size=5)
    answer = api("POST", f"/batches/{batch_id}/files", {"name": "a.log", "size": 6})
    assert assert_problem(answer, 409, "conflict")["registered"] == 5


def test_completing_names_the_missing_files(api: Client, database: Database, tenant: UUID) -> None:
    """V-01: nothing is processed until every file has arrived."""
    batch_id = api.open_batch()
    send(register(api, batch_id, "a.log")["missing"][0])
    register(api, batch_id, "b.log")
    register(api, batch_id, "c.log")
    answer = api("POST", f"/batches/{batch_id}/complete")
    assert assert_problem(answer, 409, "conflict")["missing_files"] == ["a.log", "b.log", "c.log"]
    assert api("GET", f"/batches/{batch_id}").body["status"] == "pending"
    assert events_of(database, tenant) == []


def test_a_batch_without_files_cannot_complete(api: Client) -> None:
    """V-01: an empty batch has nothing to report on."""
    answer = api("POST", f"/batches/{api.open_batch()}/complete")
    assert assert_problem(answer, 409, "conflict")["missing_files"] == []


def test_completing_asks_s3_where_no_notification_came(api: Client, tenant: UUID) -> None:
    """V-01: a lost S3 notification does not block a batch."""
    batch_id = api.open_batch()
    register(api, batch_id)
    client("s3").put_object(Bucket=UPLOADS, Key=f"batches/{tenant}/{batch_id}/a.log", Body=BODY)
    assert api("POST", f"/batches/{batch_id}/complete").status == 202


def test_a_closed_batch_takes_no_files(api: Client, fleet: Fleet) -> None:
    """V-01: registering after the completion is refused."""
    batch_id = fleet.pending("a.log")
    assert api("POST", f"/batches/{batch_id}/complete").status == 202
    answer = api("POST", f"/batches/{batch_id}/files", {"name": "b.log", "size": 1})
    assert_problem(answer, 409, "conflict")
    assert fleet.counts(batch_id) == (1, 0, 0)


def test_a_batch_holds_a_thousand_files_and_no_more(api: Client, fleet: Fleet) -> None:
    """V-01: the route refuses the file after the last one, before a timeout could."""
    batch_id = fleet.pending()
    fleet.do(
        lambda tx: tx.execute(
            "update batches.batches set total_files = 1000 where batch_id = %s", (batch_id,)
        )
    )
    answer = api("POST", f"/batches/{batch_id}/files", {"name": "b.log", "size": 1})
    assert_problem(answer, 409, "too_many_files")


def test_concurrent_completions_publish_one_event(
    api: Client, fleet: Fleet, database: Database, tenant: UUID
) -> None:
    """V-01, W-04: two clients that complete at the same moment start one pipeline."""
    batch_id = fleet.pending("a.log")
    client_of = Principal(tenant, "test", b"hash")

    def complete() -> BatchStatus:
        return routes.complete_batch(batch_id, client_of).status

    assert together(complete, complete, complete) == [BatchStatus.UPLOADED] * 3
    assert len(events_of(database, tenant)) == 1


# Other tenants ------------------------------------------------------------------------------------


def test_foreign_batches_do_not_exist(
    api: Client, foreign_api: Client, fleet: Fleet, tenant: UUID
) -> None:
    """Q-10: each route of a batch answers another tenant as if the batch did not exist."""
    batch_id = fleet.pending("a.log")
    file_id = fleet.file_id(batch_id, "a.log")
    calls: list[tuple[str, str, object]] = [
        ("GET", "", None),
        ("GET", "/files", None),
        ("POST", "/files", {"name": "b.log", "size": 1}),
        ("GET", f"/files/{file_id}/parts", None),
        ("POST", f"/files/{file_id}/complete", None),
        ("POST", "/complete", None),
        ("POST", "/cancel", None),
        ("GET", "/progress", None),
        ("GET", "/diagnosis/stream", None),
        ("GET", "/report", None),
        ("GET", "/report.html", None),
    ]
    for method, path, body in calls:
        theirs = foreign_api(method, f"/batches/{batch_id}{path}", body)
        nobodys = foreign_api(method, f"/batches/{uuid4()}{path}", body)
        assert_problem(theirs, 404, "not_found")
        assert theirs.body["detail"] == nobodys.body["detail"], "not even its existence leaks"
    assert foreign_api("GET", "/batches").body["total"] == 0
    assert fleet.batch(batch_id).status is BatchStatus.PENDING


def test_a_cached_report_stays_its_tenants(api: Client, foreign_api: Client, fleet: Fleet) -> None:
    """Q-10, V-10: the key of the cache contains the tenant."""
    batch_id = fleet.completed("a.log")
    assert api("GET", f"/batches/{batch_id}/report").status == 200
    assert_problem(foreign_api("GET", f"/batches/{batch_id}/report"), 404, "not_found")


# Cancelling and listing ---------------------------------------------------------------------------


def test_cancelling_ends_a_batch_once(
    api: Client, fleet: Fleet, database: Database, tenant: UUID
) -> None:
    """V-03: a cancelled batch is failed and has a reason; cancelling again changes nothing."""
    batch_id = fleet.scattering("a.log")
    for _ in range(2):
        answer = api("POST", f"/batches/{batch_id}/cancel")
        assert (answer.status, answer.body["status"]) == (200, "failed")
        assert answer.body["failure_code"] == "cancelled"
    told = [event_type for event_type, _ in events_of(database, tenant)]
    assert told == ["file.parse", "batch.cancelled"]
    assert_problem(api("POST", f"/batches/{batch_id}/complete"), 409, "conflict")


def test_a_completed_batch_cannot_be_cancelled(api: Client, fleet: Fleet) -> None:
    """V-03: completed is final."""
    batch_id = fleet.completed("a.log")
    assert_problem(api("POST", f"/batches/{batch_id}/cancel"), 409, "conflict")
    assert fleet.batch(batch_id).status is BatchStatus.COMPLETED


def test_listing_pages_and_filters(api: Client, fleet: Fleet) -> None:
    """G-11: pages, page sizes and a filter by state."""
    ids = [str(fleet.pending()) for _ in range(3)]
    api("POST", f"/batches/{ids[0]}/cancel")
    page = api("GET", "/batches", query={"page": "2", "page_size": "2"}).body
    assert [batch["batch_id"] for batch in page["items"]] == [ids[0]]
    assert (page["page"], page["page_size"], page["total"]) == (2, 2, 3)
    failed = api("GET", "/batches", query={"status": "failed"}).body
    assert [batch["batch_id"] for batch in failed["items"]] == [ids[0]]


def test_files_are_listed_with_what_became_of_them(api: Client, fleet: Fleet) -> None:
    """V-06: a file that cannot be parsed has a reason; upload ids and features are not shown."""
    batch_id = fleet.scattering("a.log", "b.log")
    fleet.finish(batch_id, "a.log", result="not a log")
    files = api("GET", f"/batches/{batch_id}/files").body
    assert [(file["name"], file["status"], file["reason"]) for file in files] == [
        ("a.log", "failed", "not a log"),
        ("b.log", "pending", None),
    ]
    assert {"upload_id", "features"}.isdisjoint(files[0])


# Progress -----------------------------------------------------------------------------------------


def stream(api: Client, batch_id: object, since: int | None = None, wait: float = 0) -> Answer:
    headers = {} if since is None else {"Last-Event-ID": str(since)}
    return api("GET", f"/batches/{batch_id}/progress", query={"wait": str(wait)}, headers=headers)


def events_in(text: str) -> list[tuple[int, dict[str, Any]]]:
    """Read server-sent events: id and data."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "id" in fields:
            found.append((int(fields["id"]), json.loads(fields["data"])))
    return found


def test_progress_streams_every_change(api: Client, fleet: Fleet) -> None:
    """V-11: ids increase, data hold state and percentage, the client is asked to come back."""
    batch_id = fleet.completed("a.log", "b.log")
    answer = stream(api, batch_id)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.startswith("retry: ")
    events = events_in(answer.text)
    ids = [number for number, _ in events]
    assert ids == sorted(set(ids))
    assert (events[0][1]["status"], events[0][1]["percentage"]) == ("pending", 0)
    assert (events[-1][1]["status"], events[-1][1]["percentage"]) == ("completed", 100)
    assert 50 in [data["percentage"] for _, data in events]


def test_progress_resumes_without_repeats_until_204(api: Client, fleet: Fleet) -> None:
    """V-11: `Last-Event-ID` continues exactly; the end of a finished batch is 204."""
    batch_id = fleet.completed("a.log")
    everything = events_in(stream(api, batch_id).text)
    for position, (number, _) in enumerate(everything[:-1]):
        assert events_in(stream(api, batch_id, number).text) == everything[position + 1 :]
    end = stream(api, batch_id, everything[-1][0])
    assert (end.status, end.text) == (204, "")


def test_progress_of_a_waiting_batch_says_nothing_new(api: Client, fleet: Fleet) -> None:
    """V-11: a stream without changes ends after its wait, and the client comes back."""
    batch_id = fleet.scattering("a.log")
    last = events_in(stream(api, batch_id).text)[-1][0]
    quiet = stream(api, batch_id, last, wait=0.01)
    assert quiet.status == 200
    assert events_in(quiet.text) == []
    assert quiet.text.startswith(":")


def test_progress_waits_for_news(api: Client, fleet: Fleet, monkeypatch: Any) -> None:
    """V-11: a waiting stream sends a change when it happens."""
    batch_id = fleet.scattering("a.log")
    last = events_in(stream(api, batch_id).text)[-1][0]
    polls: list[float] = []

    def finish_meanwhile(seconds: float) -> None:
        polls.append(seconds)
        fleet.finish(batch_id, "a.log")

    monkeypatch.setattr("skald.entrypoints.sse.time.sleep", finish_meanwhile)
    events = events_in(stream(api, batch_id, last, wait=5).text)
    assert [data["status"] for _, data in events] == ["scattered"]
    assert len(polls) == 1


def test_the_percentage_of_an_empty_batch_is_zero(api: Client) -> None:
    """V-11: 0 for an empty batch, never NaN."""
    ((_, data),) = events_in(stream(api, api.open_batch()).text)
    assert data["percentage"] == 0


# The report ---------------------------------------------------------------------------------------


def test_the_report_is_there_when_the_batch_is_completed(
    api: Client, fleet: Fleet, tenant: UUID
) -> None:
    """V-10: before, it is 409 with the state; after, the document with links to its charts."""
    running = fleet.diagnosing("a.log")
    for path in ("report", "report.html"):
        refused = assert_problem(api("GET", f"/batches/{running}/{path}"), 409, "conflict")
        assert refused["batch_status"] == "diagnosing"

    key = f"{tenant}/chart.png"
    batch_id = fleet.completed("a.log", report={"charts": {"faults": key}, "findings": [1]})
    ARTIFACTS.write(key, b"png", "image/png")
    ARTIFACTS.write(artifacts.page_key(tenant, batch_id), "<p>Übersicht</p>".encode(), "text/html")
    report = api("GET", f"/batches/{batch_id}/report").body
    assert report["findings"] == [1]
    assert requests.get(report["chart_urls"]["faults"], timeout=5).content == b"png"
    page = api("GET", f"/batches/{batch_id}/report.html")
    assert (page.status, page.text) == (200, "<p>Übersicht</p>")
    assert page.headers["content-type"].startswith("text/html")


def test_the_report_of_a_failed_batch_says_why(api: Client, fleet: Fleet) -> None:
    """V-10: a failed batch has no report, and its owner gets the reason."""
    batch_id = fleet.scattering("a.log")
    fleet.do(repository.fail, batch_id, "nothing_parsed", "none of 1 files could be parsed")
    refused = assert_problem(api("GET", f"/batches/{batch_id}/report"), 409, "conflict")
    assert refused["detail"] == "none of 1 files could be parsed"
    assert refused["batch_status"] == "failed"


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The batches whose report was read from the database."""
    asked: list[UUID] = []
    original = repository.find_report

    def counted(tx: Any, batch_id: UUID) -> Any:
        asked.append(batch_id)
        return original(tx, batch_id)

    monkeypatch.setattr(repository, "find_report", counted)
    return asked


def test_a_hundred_concurrent_readers_cause_one_query(
    api: Client, fleet: Fleet, tenant: UUID, queries: list[UUID]
) -> None:
    """V-10: Redis cache, single flight, database: 100 reads of a report are 1 query."""
    batch_id = fleet.completed("a.log", report={"charts": {}, "findings": [1]})
    reader = Principal(tenant, "test", b"hash")
    reports = together(*[lambda: routes.get_report(batch_id, reader)] * 100)
    assert all(report["findings"] == [1] for report in reports)
    assert queries == [batch_id]


def test_a_report_that_is_not_there_yet_is_not_cached(
    api: Client, fleet: Fleet, queries: list[UUID]
) -> None:
    """V-10: a refusal is not cached, so the report is visible as soon as it is published."""
    batch_id = fleet.diagnosing("a.log")
    assert api("GET", f"/batches/{batch_id}/report").status == 409
    fleet.do(repository.save_report, batch_id, {"charts": {}})
    fleet.do(repository.complete, batch_id, "complete")
    assert api("GET", f"/batches/{batch_id}/report").status == 200
    assert len(queries) == 2


# Bad input ----------------------------------------------------------------------------------------

IDS = ["x", "0", "%00", "..", "null", "🔑", "a" * 500, "00000000-0000-0000-0000-00000000000g"]


@pytest.mark.parametrize("bad", IDS)
def test_malformed_ids_are_refused(api: Client, bad: str) -> None:
    """Errors: a malformed id is 422 or 404, on every route."""
    other = uuid4()
    for method, path in [
        ("GET", f"/batches/{bad}"),
        ("GET", f"/batches/{bad}/files"),
        ("POST", f"/batches/{bad}/complete"),
        ("POST", f"/batches/{bad}/cancel"),
        ("GET", f"/batches/{bad}/progress"),
        ("GET", f"/batches/{bad}/report"),
        ("GET", f"/batches/{other}/files/{bad}/parts"),
        ("POST", f"/batches/{other}/files/{bad}/complete"),
    ]:
        answer = api(method, path)
        assert answer.status in (404, 422), (method, path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


BODIES: list[tuple[str | None, int]] = [
    (None, 422),
    ("", 422),
    ("{", 400),
    ("nonsense", 400),
    ("[]", 422),
    ("null", 422),
    ('"text"', 422),
    ("{}", 422),
    ('{"name": ""}', 422),
    ('{"name": 5}', 422),
    ('{"name": null}', 422),
    (json.dumps({"name": "x" * 201}), 422),
    (json.dumps({"name": "a\0b"}), 422),
    ('{"name": "\\ud800"}', 422),
    ('{"name": "a", "timeout_seconds": 4}', 422),
    ('{"name": "a", "timeout_seconds": 1e999}', 422),
    ('{"name": "a", "timeout_seconds": NaN}', 422),
    ('{"name": "a", "timeout_seconds": "soon"}', 422),
    ("[" * 100_000, 400),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
def test_malformed_bodies_are_refused(api: Client, body: str | None, status: int) -> None:
    """Errors: bad input is a 4xx problem document, and nothing is written."""
    answer = api("POST", "/batches", body)
    assert_problem(answer, status, {400: "malformed", 422: "invalid_input"}[status])
    assert api("GET", "/batches").body["total"] == 0


NAMES = ["", "a/b", "../a", "..", ".", " ", "a\\b", "a\nb", "a\0b", "x" * 201, "\u202ea"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_file_names_are_refused(api: Client, fleet: Fleet, name: str) -> None:
    """Q-10: a name that could leave its batch, or break a log line, is refused."""
    batch_id = fleet.pending()
    answer = api("POST", f"/batches/{batch_id}/files", {"name": name, "size": 1})
    assert_problem(answer, 422, "invalid_input")
    assert fleet.counts(batch_id) == (0, 0, 0)


@pytest.mark.parametrize("size", [-1, 10**15, 1.5, "big", None, True])
def test_impossible_sizes_are_refused(api: Client, fleet: Fleet, size: object) -> None:
    """V-02: a size is refused below zero and above 10,000 parts."""
    batch_id = fleet.pending()
    answer = api("POST", f"/batches/{batch_id}/files", {"name": "a.log", "size": size})
    if size is True:  # JSON's true is read as 1
        assert answer.status in (201, 422)
    else:
        assert_problem(answer, 422, "invalid_input")


@pytest.mark.parametrize("name", ["Ä b+c%20.log", "日志 (1).ulg", "a&b=c?#.log", "🚗.blf"])
def test_unusual_file_names_work(api: Client, name: str) -> None:
    """V-02: any printable name without slashes works on all routes."""
    batch_id = api.open_batch()
    upload = register(api, batch_id, name)
    send(upload["missing"][0])
    assert complete_file(api, batch_id, upload).body["name"] == name
    assert api("POST", f"/batches/{batch_id}/complete").status == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"Last-Event-ID": "x"},
        {"Last-Event-ID": "-1"},
        {"Last-Event-ID": "9" * 400},
        {"Last-Event-ID": "1.5"},
        {"Last-Event-ID": ""},
    ],
)
def test_malformed_event_ids_are_refused(
    api: Client, fleet: Fleet, headers: dict[str, str]
) -> None:
    """V-11: an invalid id does not break the stream."""
    batch_id = fleet.pending()
    answer = api("GET", f"/batches/{batch_id}/progress", query={"wait": "0"}, headers=headers)
    assert answer.status < 500, answer.text


@pytest.mark.parametrize(
    "query",
    [
        {"page": "0"},
        {"page": "x"},
        {"page": "9" * 50},
        {"page_size": "101"},
        {"status": "elsewhere"},
        {"page": "1 or 1=1"},
    ],
)
def test_malformed_queries_are_refused(api: Client, query: dict[str, str]) -> None:
    """G-11: paging outside its bounds is 422."""
    assert_problem(api("GET", "/batches", query=query), 422, "invalid_input")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"traceparent": "nonsense"},
        {"Accept": "application/xml"},
        {"X-Forwarded-For": "x" * 9000},
    ],
    ids=str,
)
def test_odd_headers_do_no_harm(api: Client, headers: dict[str, str]) -> None:
    """Errors: no header causes a 5xx."""
    assert api("POST", "/batches", {"name": "a"}, headers=headers).status < 500


def test_a_body_that_is_not_text_is_refused(api: Client, api_key: str) -> None:
    """Errors: API Gateway sends binary as base64; bytes that are not UTF-8 are not JSON."""
    event = proxy_event(
        "POST",
        "/batches",
        body=base64.b64encode(b"\xff\xfe").decode(),
        is_base64=True,
        headers={"X-Api-Key": api_key, "Content-Type": "application/json"},
    )
    assert_problem(call(routes.handler, event), 400, "malformed")
