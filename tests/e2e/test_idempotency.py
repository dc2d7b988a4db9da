"""Idempotent requests to the deployed API, with several functions at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import requests
from tests.e2e.conftest import NewTenant, Tenant
from tests.e2e.deployment import Deployment, wait_for
from tests.e2e.payloads import EVENTS


def open_batch(skald: Deployment, tenant: Tenant, name: str, key: str) -> requests.Response:
    return requests.post(
        f"{skald.api_url}/batches",
        json={"name": name},
        headers={"X-Api-Key": tenant.api_key, "Idempotency-Key": key},
        timeout=60,
    )


def test_one_key_one_batch(skald: Deployment, new_tenant: NewTenant) -> None:
    """W-03: five equal requests at once open one batch and get one answer; another is refused."""
    tenant, other = new_tenant(), new_tenant()
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: open_batch(skald, tenant, "night", "k"), range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [201]
    assert len({answer.content for answer in answers}) == 1
    replays = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert replays.count("true") == 4
    assert open_batch(skald, tenant, "day", "k").status_code == 422
    assert open_batch(skald, other, "day", "k").status_code == 201
    counts = skald.sql(
        "select count(*) as count from batches.batches where tenant_id = %s", tenant.tenant_id
    )
    assert counts[0]["count"] == 1


def test_keys_are_forgotten(skald: Deployment, tenant: Tenant) -> None:
    """W-02: a key is deleted at once on request, else by the schedule after its end."""
    first = open_batch(skald, tenant, "night", "k")
    forgotten = requests.delete(
        f"{skald.api_url}/idempotency-keys/k", headers={"X-Api-Key": tenant.api_key}, timeout=60
    )
    assert (forgotten.status_code, forgotten.json()) == (200, {"invalidated": 1})
    again = open_batch(skald, tenant, "night", "k")
    assert (again.status_code, again.json()["batch_id"]) != (201, first.json()["batch_id"])

    expire = "update skald.idempotency_cache set expires_at = now() where tenant_id = %s"
    skald.sql(expire, tenant.tenant_id)
    event = json.loads((EVENTS / "tidy.json").read_text())
    assert skald.invoke("Tidy", event).error is None
    kept = "select 1 from skald.idempotency_cache where tenant_id = %s"
    wait_for("end of the keys", lambda: not skald.sql(kept, tenant.tenant_id))
    assert open_batch(skald, tenant, "night", "k").status_code == 201
