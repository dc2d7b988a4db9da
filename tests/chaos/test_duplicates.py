"""Notifications, requests and jobs that come twice, at once, or in the wrong order."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote_plus

from tests.chaos import jobs
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for
from tests.e2e.payloads import payload

from batches.domain import MAX_ATTEMPTS
from client.api import Client


def test_s3_tells_twice_and_too_early(skald: Deployment, tenant: Tenant) -> None:
    """C-06, Q-05: many notifications of one object, at once, make one row and one count.

    Some come before the client registers the file. After the end of the batch they change nothing.
    """
    data = flows.lines(60, errors=1)
    batch_id = tenant.client.open_batch("told twice")
    key = f"batches/{tenant.tenant_id}/{batch_id}/a b.log"
    skald.client("s3").put_object(Bucket=skald.resources["UploadsBucket"], Key=key, Body=data)
    event = payload("file_arrived", tenant.tenant_id, batch_id, object=quote_plus(key, safe="/"))
    event["Records"][0]["s3"]["object"]["size"] = len(data)
    event["Records"] *= 2
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: skald.invoke("FileArrived", event), range(5)))
    assert [answer.error for answer in answers] == [None] * 5
    state = tenant.client.register(batch_id, "a b.log", len(data))
    assert (state["missing"], state["arrived"]) == ([], [1])
    tenant.client.complete_file(batch_id, state["file_id"])
    assert tenant.client.batch(batch_id)["total_files"] == 1
    tenant.client.complete(batch_id)
    assert skald.invoke("FileArrived", event).error is None
    report = flows.assert_ended_once(skald, tenant, batch_id, events={"a b.log": 60})
    assert skald.invoke("FileArrived", event).error is None
    assert tenant.client.report(batch_id)["statistics"] == report["statistics"]
    assert len(tenant.client.files(batch_id)) == 1


def test_complete_twice_and_at_once(skald: Deployment, tenant: Tenant) -> None:
    """V-01, V-03: completed twice, then ten times at once, a batch is processed once."""
    files = {"a.log": flows.lines(20), "b.log": flows.lines(30)}
    twice = flows.open_batch(tenant, files)
    assert tenant.client.complete(twice)["status"] == "uploaded"
    assert tenant.client.complete(twice)["batch_id"] == str(twice)

    at_once = flows.open_batch(tenant, files)
    clients = [Client(skald.api_url, tenant.api_key) for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda client: client.complete(at_once), clients))
    for client in clients:
        client.session.close()
    assert {answer["batch_id"] for answer in answers} == {str(at_once)}
    for batch_id in (twice, at_once):
        counts = {"a.log": 20, "b.log": 30}
        flows.assert_ended_once(skald, tenant, batch_id, events=counts)
        sent = skald.sql(
            "select event_type from skald.outbox where correlation_id = %s order by event_type",
            str(batch_id),
        )
        assert [row["event_type"] for row in sent] == [
            "batch.completed",
            "batch.uploaded",
            "file.parse",
            "file.parse",
        ]


def test_jobs_delivered_twice_at_once(skald: Deployment, tenant: Tenant) -> None:
    """V-04, V-05: every parse job comes three times at once; each file counts once.

    The pipeline continues once. (A fourth delivery before the end of the others would count as a
    file that kills its parsers.)
    """
    files = {f"{name}.log": flows.lines(10 + at) for at, name in enumerate("abc")}
    batch_id = flows.open_batch(tenant, files)
    with skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        events = [jobs.job(skald, tenant, batch_id, name) for name in files] * MAX_ATTEMPTS
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda event: skald.invoke("ParseFile", event), events))
        assert {str(answer.payload) for answer in answers} == {"{'batchItemFailures': []}"}
        counts = {name: 10 + at for at, name in enumerate(files)}
        flows.assert_ended_once(skald, tenant, batch_id, events=counts)
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
