"""Rubrics on the deployed API: versions, hashes, and isolation."""

from typing import Any

import requests
from tests.e2e.conftest import NewTenant, Tenant
from tests.e2e.deployment import Deployment

RUBRIC: dict[str, Any] = {
    "question": "What is a router?",
    "criteria": [{"name": "forwards packets", "points": 2}],
    "reference_answers": ["It forwards packets between networks."],
}
PATH = "exams/networks/questions/1.1/rubric"


def ask(
    skald: Deployment, tenant: Tenant, method: str, path: str = PATH, **more: Any
) -> requests.Response:
    headers = {"X-Api-Key": tenant.api_key} | more.pop("headers", {})
    return requests.request(method, f"{skald.api_url}/{path}", headers=headers, timeout=60, **more)


def test_versions_of_a_rubric(skald: Deployment, tenant: Tenant) -> None:
    """G-10, G-15: created once, superseded from a known version, readable in every version.

    The hash is always that of the newest version.
    """
    key = {"Idempotency-Key": "k"}
    answers = [ask(skald, tenant, "POST", json=RUBRIC, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200], answers[0].text
    first = answers[0].json()
    assert ask(skald, tenant, "POST", json=RUBRIC).status_code == 409
    assert ask(skald, tenant, "GET", f"{PATH}/hash").json() == {"hash": first["hash"]}
    changed = RUBRIC | {"question": "What is a switch?"}
    puts = [
        ask(skald, tenant, "PUT", json=changed, params={"expected_version": 1}) for _ in range(2)
    ]
    assert [put.status_code for put in puts] == [200, 409]
    second = puts[0].json()
    assert (second["version"], second["hash"] != first["hash"]) == (2, True)
    assert ask(skald, tenant, "GET", f"{PATH}/hash").json() == {"hash": second["hash"]}
    assert ask(skald, tenant, "GET", params={"version": 1}).json() == first
    (listed,) = ask(skald, tenant, "GET", "exams/networks/rubrics").json()["items"]
    assert (listed["question_id"], listed["version"]) == ("1.1", 2)


def test_rubrics_are_their_tenants(skald: Deployment, new_tenant: NewTenant) -> None:
    """Q-10: no other tenant finds a rubric, reads its hash or lists it."""
    owner, stranger = new_tenant(), new_tenant()
    assert ask(skald, owner, "POST", json=RUBRIC).status_code == 201
    for path in (PATH, f"{PATH}/hash"):
        assert ask(skald, stranger, "GET", path).status_code == 404
    assert ask(skald, stranger, "GET", "exams/networks/rubrics").json()["items"] == []


def test_bad_rubrics_are_refused(skald: Deployment, tenant: Tenant) -> None:
    """Errors: bad input is 422 with a stable code, and nothing is written."""
    answer = ask(skald, tenant, "POST", json={"question": ""})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert ask(skald, tenant, "GET").status_code == 404
