"""W-03: idempotent routes as a client sees them."""

import hashlib
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tests.integration.idempotency import orders
from tests.integration.idempotency.conftest import Shop, Spawn, let_go
from tests.integration.support import Client

from skald.postgres import pool

pytestmark = pytest.mark.usefixtures("rows_first")

type Count = Callable[[UUID], int]


def test_replay_is_the_first_answer(shop: Shop, tenant: UUID, count_orders: Count) -> None:
    """W-03: first 201, then 200 with the same bytes and a header that names the replay."""
    first, replay = shop("lamp", "k"), shop("lamp", "k")
    assert (first.status, replay.status) == (201, 200)
    assert replay.text == first.text
    assert first.body == {"article": "lamp", "number": 1}
    assert "idempotency-replayed" not in first.headers
    assert replay.headers["idempotency-replayed"] == "true"
    assert replay.headers["content-type"] == first.headers["content-type"]
    assert replay.headers["x-trace-id"] != first.headers["x-trace-id"]
    assert count_orders(tenant) == 1


def test_answer_survives_as_it_is(shop: Shop) -> None:
    """W-03: a replay has the same bytes: order of members, escapes, NUL."""
    article = 'Ω "quoted" \\u0000 \x7f 🦄 </script>'
    first, replay = shop(article, "k"), shop(article, "k")
    assert (replay.text, replay.body["article"]) == (first.text, article)


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Idempotency-Key", "idempotency-key"])
def test_both_headers_name_the_key(shop: Shop, name: str) -> None:
    """W-03: both names, in upper or lower case, with or without quotation marks."""
    assert shop("lamp", **{name: '"k"'}).status == 201
    assert shop("lamp", "k").status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Idempotency_Key": ""}, {"Idempotency_Key": "x" * 256}, {"X_Idempotency_Key": "other"}],
)
def test_key_must_be_one(shop: Shop, headers: dict[str, str], tenant: UUID) -> None:
    """W-03: an empty, a too long or an ambiguous key is refused."""
    answer = shop("lamp", **{"Idempotency_Key": "k"} | headers)
    assert (answer.status, answer.body["code"]) == (422, "invalid_input")


def test_without_a_key_every_request_counts(shop: Shop, tenant: UUID, count_orders: Count) -> None:
    """W-03: without a key each request works."""
    assert [shop("lamp").status for _ in range(2)] == [201, 201]
    assert count_orders(tenant) == 2


def test_other_payload_is_refused(shop: Shop, tenant: UUID, count_orders: Count) -> None:
    """W-03: another body under the same key is 422; white space and member order do not count."""
    assert shop('{"article": "lamp", "number": 2}', "k").status == 201
    answer = shop("table", "k")
    assert (answer.status, answer.body["code"]) == (422, "idempotency_key_reused")
    assert shop('{ "number":2,"article":"lamp" }', "k").status == 200
    assert count_orders(tenant) == 1


def test_other_path_is_refused(shop: Shop) -> None:
    """W-03: the key of an order in one shop is refused in another shop."""
    assert shop("lamp", "k", "/automatic/here").status == 202
    assert shop("lamp", "k", "/automatic/there").status == 422


def test_other_tenant_is_independent(shop: Shop, foreign_shop: Shop) -> None:
    """W-03, Q-10: a request never gets the record of another tenant."""
    assert shop("lamp", "k").status == 201
    assert foreign_shop("table", "k").status == 201


@pytest.mark.parametrize(
    ("article", "path", "status"),
    [
        (orders.OUT_OF_STOCK, "", 409),
        (orders.BUG, "", 500),
        ({"no": "text"}, "", 422),
        ("lamp", "/returned", 409),
    ],
)
def test_refusals_are_not_stored(
    shop: Shop, tenant: UUID, count_orders: Count, article: object, path: str, status: int
) -> None:
    """W-03: only 2xx is stored; after any other answer the key is free."""
    assert [shop(article, "k", path).status for _ in range(2)] == [status] * 2
    assert count_orders(tenant) == 0
    assert shop("table", "k").status == 201


def test_in_flight_duplicate_is_told_to_come_back(
    shop: Shop, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-03: 409 with Retry-After if the first request takes longer than the lock timeout."""
    child = spawn("request", json.dumps(shop.event("lamp", "k")), until="before commit")
    with monkeypatch.context() as impatient:
        impatient.setattr(pool, "LOCK_TIMEOUT", "100ms")
        duplicate = shop("lamp", "k")
    assert (duplicate.status, duplicate.body["code"]) == (409, "idempotency_key_in_use")
    assert int(duplicate.headers["retry-after"]) > 0
    assert json.loads(let_go(child))["status"] == 201
    assert shop("lamp", "k").status == 200


def test_automatic_key(shop: Shop, tenant: UUID, count_orders: Count) -> None:
    """W-03: `auto:` and 32 digits of SHA-256 over method, path, body and user."""
    first, replay = (shop("lamp", path="/automatic/here") for _ in range(2))
    assert (first.status, replay.status, replay.text) == (202, 200, first.text)
    identity = {
        "method": "POST",
        "path": "/automatic/here",
        "query": {},
        "body": {"article": "lamp"},
        "user": "key:test",
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    assert first.headers["idempotency-key"] == f"auto:{digest[:32]}"
    assert shop("table", path="/automatic/here").status == 202
    assert shop("lamp", path="/automatic/there").status == 202
    assert shop("lamp", "my own", "/automatic/here").status == 202
    assert count_orders(tenant) == 4


def test_batches_are_created_once(api: Client, foreign_api: Client) -> None:
    """W-03, V-01: creating a batch again under the same key gives the same batch."""
    key = {"Idempotency-Key": "night"}
    first, replay = (api("POST", "/batches", {"name": "night"}, headers=key) for _ in range(2))
    assert (first.status, replay.status, replay.text) == (201, 200, first.text)
    assert api("GET", "/batches").body["total"] == 1
    assert foreign_api("POST", "/batches", {"name": "night"}, headers=key).status == 201


def test_openapi_says_so() -> None:
    """W-03: the OpenAPI document names the headers, the replay and the conflict."""
    document = orders.api.document("Orders", "1")
    operation = document["paths"]["/automatic/{shop}"]["post"]
    names = [parameter["name"] for parameter in operation["parameters"]]
    assert names == ["shop", "Idempotency-Key", "X-Idempotency-Key"]
    responses: dict[str, Any] = operation["responses"]
    assert {"200", "202", "401", "409", "422"} <= set(responses)
    assert responses["200"]["content"] == responses["202"]["content"]
    assert "Idempotency-Replayed" in responses["200"]["headers"]
    assert "application/problem+json" in responses["409"]["content"]
