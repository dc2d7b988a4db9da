"""G-12, P-08: the HTTP API counts callers by key, strangers by address."""

from collections.abc import Iterator

import pytest
from tests.integration.support import Answer, Client, call, proxy_event

from skald.state import rate_limit


@pytest.fixture
def api_of_two(api: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The batches API with two requests a minute for everybody."""
    monkeypatch.setenv("RATE_LIMIT_PER_KEY", "2")
    monkeypatch.setenv("RATE_LIMIT_PER_IP", "2")
    rate_limit._limit.cache_clear()
    yield api
    rate_limit._limit.cache_clear()


def stranger(address: str) -> Answer:
    from batches.api import handler

    event = proxy_event("GET", "/batches", headers={"X-Api-Key": "skald_guessed"})
    event["requestContext"]["identity"]["sourceIp"] = address
    return call(handler, event)


def test_a_key_over_its_limit_gets_429(api_of_two: Client, foreign_api: Client) -> None:
    """G-12: 429 problem with whole positive seconds in Retry-After; other keys go on."""
    assert [api_of_two("GET", "/batches").status for _ in range(2)] == [200, 200]
    refused = api_of_two("GET", "/batches")
    assert (refused.status, refused.body["code"]) == (429, "too_many_requests")
    assert 0 < int(refused.headers["retry-after"]) <= 30
    assert foreign_api("GET", "/batches").status == 200


def test_who_guesses_keys_is_limited_by_address(api_of_two: Client) -> None:
    """P-08: a fresh key for each guess is no way around; others' addresses are not touched."""
    assert [stranger("192.0.2.1").status for _ in range(3)] == [401, 401, 429]
    assert stranger("192.0.2.2").status == 401


def test_bad_input_counts_once(api_of_two: Client) -> None:
    """G-12: a request refused for its input is one request."""
    statuses = [api_of_two("POST", "/batches", {"nome": 1}).status for _ in range(3)]
    assert statuses == [422, 422, 429]
