"""W-02: expired records are deleted, and an operator can invalidate one key."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import LiteralString
from uuid import UUID

import pytest
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyKeyError
from psycopg import Connection, errors
from psycopg.rows import DictRow
from tests.conftest import Context
from tests.integration.idempotency.conftest import Shop
from tests.integration.support import call, proxy_event, retention

import operations.retention
from operations.api import _document, tenant_handler
from skald.idempotency import Operation, records
from skald.postgres import Database

type CleanUp = Callable[[int], int]


@pytest.fixture
def clean_up(relay_database: Database, monkeypatch: pytest.MonkeyPatch) -> CleanUp:
    """Run the scheduled function as the role of the relay, in steps of two. Returns the count."""
    bites = replace(retention("idempotency_keys"), delete=partial(records.delete_expired, bite=2))
    monkeypatch.setattr(operations.retention, "RETENTIONS", [bites])
    monkeypatch.setattr(operations.retention, "database", lambda: relay_database)

    def run(remaining_milliseconds: int = 30_000) -> int:
        result = operations.retention.tidy({}, Context(remaining_milliseconds))
        return int(result["idempotency_keys"])

    return run


@pytest.fixture(autouse=True)
def no_records(admin: Connection[DictRow], database: Database) -> None:
    admin.execute("truncate skald.idempotency_cache")


def remember(database: Database, tenant: UUID, *keys: str) -> None:
    with database.transaction(tenant) as tx:
        for key in keys:
            Operation("thing").run(tx, dict, key=key, payload=None)


EXPIRE: LiteralString = "update skald.idempotency_cache set expires_at = now() - interval '1s'"
COUNT: LiteralString = "select count(*) as count from skald.idempotency_cache"


def count(admin: Connection[DictRow]) -> int:
    row = admin.execute(COUNT).fetchone()
    return int(row["count"]) if row else 0


def test_clean_up_deletes_only_what_is_expired(
    clean_up: CleanUp,
    database: Database,
    admin: Connection[DictRow],
    tenant: UUID,
    other_tenant: UUID,
) -> None:
    """W-02: expired records of all tenants are deleted, in several rounds; other records stay."""
    remember(database, tenant, "a", "b", "c")
    remember(database, other_tenant, "d", "e")
    admin.execute(EXPIRE)
    remember(database, tenant, "f")
    assert clean_up(30_000) == 5
    assert count(admin) == 1
    assert clean_up(30_000) == 0


def test_clean_up_stops_in_time(
    clean_up: CleanUp, database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-02: a clean-up that runs out of time leaves the rest to the next one."""
    remember(database, tenant, "a")
    admin.execute(EXPIRE)
    assert clean_up(1_000) == 0
    assert count(admin) == 1


def test_clean_up_passes_a_record_that_is_claimed_again(
    clean_up: CleanUp, database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-02: an expired key that a request claims neither blocks the clean-up nor is deleted."""
    remember(database, tenant, "a", "b")
    admin.execute(EXPIRE)
    with database.transaction(tenant) as tx:
        Operation("thing").run(tx, dict, key="a", payload=None)
        assert clean_up(30_000) == 1
    assert count(admin) == 1


def test_clean_up_uses_the_index_on_expiry(
    relay_database: Database, database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-02: the clean-up does not read valid records."""
    remember(database, tenant, *map(str, range(50)))
    admin.execute("analyze skald.idempotency_cache")
    with relay_database.transaction(None) as tx:
        tx.execute("set local enable_seqscan = off")
        plan = tx.execute(
            "explain select tenant_id, key, operation from skald.idempotency_cache"
            " where expires_at <= now() order by expires_at limit 10 for update skip locked"
        ).fetchall()
    assert any("idempotency_cache_expiry" in str(line) for line in plan)


@pytest.mark.parametrize(
    "query",
    [
        "select result from skald.idempotency_cache",
        "update skald.idempotency_cache set result = null",
        "insert into skald.idempotency_cache (tenant_id) values (gen_random_uuid())",
    ],
)
def test_clean_up_sees_no_answers(relay_database: Database, query: LiteralString) -> None:
    """W-02, Q-10: the role of the clean-up may neither read nor write the stored answers."""
    with pytest.raises(errors.InsufficientPrivilege), relay_database.transaction(None) as tx:
        tx.execute(query)


def test_clean_up_cannot_touch_what_is_valid(
    relay_database: Database, database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-02: the policy shows that role only expired rows, so no statement deletes valid rows."""
    remember(database, tenant, "a")
    with relay_database.transaction(None) as tx:
        assert tx.execute("delete from skald.idempotency_cache").rowcount == 0
    assert count(admin) == 1


def test_one_key_is_invalidated(
    shop: Shop, foreign_shop: Shop, api_key: str, other_api_key: str
) -> None:
    """W-02: the next request with the key works again; the key of another tenant is not found."""
    key = shop("lamp", path="/automatic/here").headers["idempotency-key"]
    path = f"/idempotency-keys/{key}"

    def delete(api_key: str) -> int:
        event = proxy_event("DELETE", path, headers={"X-Api-Key": api_key})
        return call(tenant_handler, event).status

    assert delete("skald_unknown") == 401
    assert delete(other_api_key) == 404
    assert shop("lamp", path="/automatic/here").status == 200
    assert [delete(api_key), delete(api_key)] == [200, 404]
    assert shop("lamp", path="/automatic/here").status == 202


def test_documented() -> None:
    """W-02: the route is in the OpenAPI document of the whole API."""
    assert "/idempotency-keys/{key}" in _document()


def test_records_are_hashed(database: Database, admin: Connection[DictRow], tenant: UUID) -> None:
    """W-02: the key of a client may be a secret, so only its hash is stored."""
    remember(database, tenant, "secret")
    stored = admin.execute("select * from skald.idempotency_cache").fetchone()
    assert stored is not None
    assert "secret" not in str(stored)
    with database.transaction(tenant) as tx:
        assert records.invalidate(tx, stored["key"]) == 1


def test_hashes_are_those_of_earlier_releases(
    database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-01: a request that is repeated after a release still is the same request."""
    payload = {"b": [1, None], "a": "ä"}
    with database.transaction(tenant) as tx:
        Operation("thing").run(tx, dict, key="k", payload=payload)
    stored = admin.execute("select key, payload_hash from skald.idempotency_cache").fetchone()
    assert stored == {
        "key": hashlib.sha256(b'"k"').hexdigest(),
        "payload_hash": hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest(),
    }


def test_no_key_is_no_key(database: Database, tenant: UUID) -> None:
    """W-01: all clients that forget their key would share the empty key."""
    with pytest.raises(IdempotencyKeyError), database.transaction(tenant) as tx:
        Operation("thing").run(tx, dict, key="", payload=None)
