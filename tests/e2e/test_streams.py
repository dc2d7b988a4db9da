"""V-11, V-13: the streams through the gateway, with a key and with a ticket."""

import re

import requests
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment


def test_a_diagnosis_is_watched_to_its_end(skald: Deployment, tenant: Tenant) -> None:
    """V-13: the stream shows every agent's turn, and its end agrees with the report."""
    client = tenant.client
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(60, errors=9)})
    client.complete(batch_id)
    told = list(client.diagnosis(batch_id))
    assert [event.name for event in told].index("ended") == len(told) - 1
    flows.wait_until_ended(tenant, batch_id)
    report = client.report(batch_id)
    path = report["diagnosis"]["path"]
    assert told[-1].data["path"] == path
    finished = [event.data["node"] for event in told if event.name == "finished"]
    assert sorted(finished) == sorted(step["node"] for step in path)
    assert report["judged_by"] in client.report_page(batch_id)


def test_a_ticket_opens_the_streams_without_a_key(skald: Deployment, tenant: Tenant) -> None:
    """V-11: the request of a browser's EventSource is accepted, for this batch only."""
    batch_id, other = tenant.client.open_batch("watched"), tenant.client.open_batch("other")
    ticket = tenant.client.stream_ticket(batch_id)

    def status(path: str) -> int:
        query = {"ticket": ticket, "wait": "0"}
        return requests.get(f"{skald.api_url}{path}", params=query, timeout=30).status_code

    assert status(f"/batches/{batch_id}/progress") == 200
    assert status(f"/batches/{batch_id}/diagnosis/stream") == 200
    assert status(f"/batches/{other}/progress") == 401
    assert status(f"/batches/{batch_id}") == 401


def test_the_live_page_follows_streams_that_exist(skald: Deployment) -> None:
    """V-13: the page needs no key, loads nothing, and knows the names of the streams."""
    answer = requests.get(f"{skald.api_url}/live", timeout=30)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert not re.search(r"(?:src|href)=|https?:", answer.text)
    paths = requests.get(f"{skald.api_url}/openapi.json", timeout=30).json()["paths"]
    followed = re.findall(r'follow\("([^"]+)"', answer.text)
    assert len(followed) == 2
    for stream in followed:
        operation = paths[f"/batches/{{batch_id}}/{stream}"]["get"]
        assert {"Ticket": []} in operation["security"]
