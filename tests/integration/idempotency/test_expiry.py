"""W-02: how long answers are kept."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.idempotency.orders import place_alone
from tests.integration.support import together

from skald.idempotency import invalidate, records
from skald.postgres import Database, Transaction

pytestmark = pytest.mark.usefixtures("rows_first")


@pytest.mark.parametrize(("setting", "hours"), [("", 24), ("0.5", 0.5)])
def test_time_to_live(
    database: Database,
    admin: Connection[DictRow],
    tenant: UUID,
    configure: Callable[[str, str], None],
    setting: str,
    hours: float,
) -> None:
    """W-02: an answer is kept for 24 hours unless the setting gives another time."""
    configure("IDEMPOTENCY_TTL_HOURS", setting)
    place_alone(database, tenant)
    row = admin.execute(
        "select expires_at - created_at as kept from skald.idempotency_cache where tenant_id = %s",
        (tenant,),
    ).fetchone()
    assert row is not None
    assert timedelta(0) <= row["kept"] - timedelta(hours=hours) < timedelta(seconds=10)


def test_expired_key_works_again(
    database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-02: an expired key works as a new key does, with any payload."""
    place_alone(database, tenant)
    expire(admin, tenant)
    assert place_alone(database, tenant, "table") == (2, False)
    assert place_alone(database, tenant, "table") == (2, True)


def test_expired_key_works_once(
    database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-02: several requests find the same expired key; one of them works."""
    place_alone(database, tenant)
    expire(admin, tenant)
    outcomes = together(*[lambda: place_alone(database, tenant)] * 6)
    assert sorted(outcomes) == [(2, False)] + [(2, True)] * 5


def test_invalidated_key_works_again(database: Database, tenant: UUID, other_tenant: UUID) -> None:
    """W-02: a tenant can invalidate one of its own keys, and no key of another tenant."""
    for owner in (tenant, other_tenant):
        place_alone(database, owner)
        place_alone(database, owner, key="other")
    with database.transaction(tenant) as tx:
        assert invalidate(tx, "k") == 1
        assert invalidate(tx, "k") == 0
    assert place_alone(database, tenant) == (3, False)
    assert place_alone(database, tenant, key="other") == (2, True)
    assert place_alone(database, other_tenant) == (1, True)


def test_survives_a_record_that_vanishes(
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch, *, rows_first: bool
) -> None:
    """W-02: a record that is deleted between the claim and the read is claimed again."""
    place_alone(database, tenant)
    find = records.find
    found: list[int] = []

    def vanished(tx: Transaction, name: records.Name) -> Any:
        if not found:
            # The transaction of the claim has ended, so the record is not locked any more.
            with database.transaction(tenant) if rows_first else nullcontext(tx) as deleting:
                found.append(invalidate(deleting, "k"))
        return find(tx, name)

    monkeypatch.setattr(records, "find", vanished)
    assert place_alone(database, tenant) == (2, False)
    assert found == [1]


def expire(admin: Connection[DictRow], tenant: UUID) -> None:
    admin.execute(
        "update skald.idempotency_cache set expires_at = now() where tenant_id = %s", (tenant,)
    )
