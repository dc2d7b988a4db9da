"""P-07, Q-10: an API key authenticates one tenant, and only its hash is stored."""

import hashlib
import time
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow

from skald.access import keys
from skald.access.keys import authenticate, create_api_key
from skald.errors import Unauthenticated
from skald.postgres import Database


def test_a_key_belongs_to_its_tenant(database: Database, api_key: str, tenant: UUID) -> None:
    """P-07: a key identifies its tenant and has a name."""
    digest = hashlib.sha256(api_key.encode()).digest()
    assert authenticate(database, api_key) == keys.Principal(tenant, "key:test", digest)


def test_only_a_hash_is_stored(api_key: str, tenant: UUID, admin: Connection[DictRow]) -> None:
    """P-07: an attacker who reads the table gets no key from it."""
    row = admin.execute(
        "select key_hash, to_jsonb(k)::text as everything from skald.api_keys k"
        " where tenant_id = %s",
        (tenant,),
    ).fetchone()
    assert row is not None
    assert row["key_hash"] == hashlib.sha256(api_key.encode()).digest()
    assert api_key not in row["everything"]
    assert api_key.removeprefix(keys.PREFIX) not in row["everything"]


def test_each_key_is_new(migrator_database: Database, tenant: UUID) -> None:
    """P-07: a tenant may have several keys; each holds 256 random bits."""
    with migrator_database.transaction(None) as tx:
        drawn = {create_api_key(tx, tenant, "test") for _ in range(3)}
    assert len(drawn) == 3
    assert all(len(key) - len(keys.PREFIX) == 43 for key in drawn)


def test_functions_cannot_make_keys(database: Database, tenant: UUID) -> None:
    """P-07: only the role of the migrator may create keys."""
    import psycopg

    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        database.transaction(tenant) as tx,
    ):
        create_api_key(tx, tenant, "mine")


def test_a_revoked_key_is_refused_within_half_a_minute(
    database: Database,
    api_key: str,
    tenant: UUID,
    admin: Connection[DictRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P-07: the result of a lookup is cached for 30 seconds and not longer."""
    authenticate(database, api_key)
    admin.execute("update skald.api_keys set revoked_at = now() where tenant_id = %s", (tenant,))
    assert authenticate(database, api_key).tenant_id == tenant, "still trusted"
    later = time.time() + 31
    monkeypatch.setattr("skald.access.keys.time.time", lambda: later)
    with pytest.raises(Unauthenticated, match="unknown or revoked"):
        authenticate(database, api_key)


@pytest.mark.parametrize(
    "key", [None, "", "secret", keys.PREFIX, f"{keys.PREFIX}unknown", f"{keys.PREFIX}{'ä' * 5000}"]
)
def test_unknown_keys_are_refused(database: Database, key: str | None) -> None:
    """P-07: no key, a key of another system, a key that was never issued."""
    with pytest.raises(Unauthenticated):
        authenticate(database, key)
