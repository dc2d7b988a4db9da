"""G-12, P-07: the HTTP API limits clients by API key, and clients without a key by address."""

from collections.abc import Callable

import pytest
from tests.integration.support import Answer, Client, call, proxy_event


@pytest.fixture
def api_of_two(api: Client, configure: Callable[[str, str], None]) -> Client:
    """The batches API with two requests a minute for each client."""
    configure("RATE_LIMIT_PER_KEY", "2")
    configure("RATE_LIMIT_PER_IP", "2")
    return api


def stranger(address: str) -> Answer:
    from batches.api import handler

    event = proxy_event("GET", "/batches", headers={"X-Api-Key": "skald_guessed"})
    event["requestContext"]["identity"]["sourceIp"] = address
    return call(handler, event)


def test_a_key_over_its_limit_gets_429(api_of_two: Client, foreign_api: Client) -> None:
    """G-12: it gets a problem 429 with whole seconds in Retry-After; other keys continue."""
    assert [api_of_two("GET", "/batches").status for _ in range(2)] == [200, 200]
    refused = api_of_two("GET", "/batches")
    assert (refused.status, refused.body["code"]) == (429, "too_many_requests")
    assert 0 < int(refused.headers["retry-after"]) <= 30
    assert foreign_api("GET", "/batches").status == 200


def test_a_client_that_guesses_keys_is_limited_by_address(api_of_two: Client) -> None:
    """P-07: a new key in each request does not avoid the limit; other addresses are not limited."""
    assert [stranger("192.0.2.1").status for _ in range(3)] == [401, 401, 429]
    assert stranger("192.0.2.2").status == 401


def test_bad_input_counts_once(api_of_two: Client) -> None:
    """G-12: a request that is refused for its input counts as one request."""
    statuses = [api_of_two("POST", "/batches", {"nome": 1}).status for _ in range(3)]
    assert statuses == [422, 422, 429]


def test_a_resource_has_a_limit_of_its_own(
    api: Client, foreign_api: Client, configure: Callable[[str, str], None]
) -> None:
    """P-07: one path that is requested too often is refused; other paths and tenants are not."""
    configure("RATE_LIMIT_PER_RESOURCE", "2")
    batch_id = api.open_batch()
    path = f"/batches/{batch_id}"
    assert [api("GET", path).status for _ in range(3)] == [200, 200, 429]
    assert api("GET", f"{path}/files").status == 200
    assert foreign_api("GET", path).status == 404
