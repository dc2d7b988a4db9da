"""C-08, W-01: claim, effect, outbox row and answer are one transaction."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.errors import DivisionByZero
from psycopg.rows import DictRow
from tests.integration.idempotency import orders
from tests.integration.idempotency.conftest import Shop, Spawn, let_go
from tests.integration.support import together, wait_until_blocked

from skald.idempotency import InUse, KeyReused, Operation, invalidate
from skald.idempotency import records as idempotency_records
from skald.state import postgres
from skald.state.postgres import Database, Transaction

ORDER = Operation("order")

type Count = Callable[[UUID], int]


class Broken(Exception):
    """What a test raises in the middle of a transaction."""


def place(tx: Transaction, article: str = "lamp", key: str = "k", work: Any = None) -> Any:
    """Place an order under a key; returns its number and whether it is a replay."""

    def effect() -> dict[str, Any]:
        return orders.place(tx, article).model_dump()

    answer = ORDER.once(tx, work or effect, key=key, payload={"article": article})
    return answer.result.get("number"), answer.replayed


def place_alone(database: Database, tenant: UUID, article: str = "lamp", key: str = "k") -> Any:
    with database.transaction(tenant) as tx:
        return place(tx, article, key)


def records(admin: Connection[DictRow], tenant: UUID) -> int:
    row = admin.execute(
        "select count(*) as count from skald.idempotency_cache where tenant_id = %s", (tenant,)
    ).fetchone()
    return int(row["count"]) if row else 0


def test_second_call_replays(database: Database, tenant: UUID, count_orders: Count) -> None:
    """W-01: the same key and payload have one effect and one answer."""
    assert place_alone(database, tenant) == (1, False)
    assert place_alone(database, tenant) == (1, True)
    assert count_orders(tenant) == 1


def test_empty_answer_replays(database: Database, tenant: UUID) -> None:
    """W-01: having nothing to say is an answer too."""
    for replayed in (False, True):
        with database.transaction(tenant) as tx:
            answer = ORDER.once(tx, dict, key="k", payload=None)
        assert (answer.result, answer.replayed) == ({}, replayed)


def test_rollback_takes_all(
    database: Database, admin: Connection[DictRow], tenant: UUID, count_orders: Count
) -> None:
    """C-08: a rollback after the answer was stored leaves neither effect nor claim nor answer."""
    with pytest.raises(Broken), database.transaction(tenant) as tx:  # noqa: PT012
        assert place(tx) == (1, False)
        assert place(tx) == (1, True)
        raise Broken
    assert (count_orders(tenant), records(admin, tenant)) == (0, 0)
    assert place_alone(database, tenant) == (1, False)


def test_failed_work_frees_the_key(database: Database, tenant: UUID) -> None:
    """C-08: what the work raises arrives as it is, be it PostgreSQL's, and the key is free."""

    def broken() -> dict[str, Any]:
        raise Broken

    with pytest.raises(Broken), database.transaction(tenant) as tx:
        place(tx, work=broken)
    with pytest.raises(DivisionByZero), database.transaction(tenant) as tx:
        place(tx, work=lambda: {"number": tx.value("select 1 / 0")})
    assert place_alone(database, tenant) == (1, False)


def test_claim_of_swallowed_failure_is_free(database: Database, tenant: UUID) -> None:
    """C-08: a caller that commits in spite of the failure leaves a claim anybody may take."""

    def broken() -> dict[str, Any]:
        raise Broken

    with database.transaction(tenant) as tx, pytest.raises(Broken):
        place(tx, work=broken)
    assert place_alone(database, tenant) == (1, False)


def test_other_payload_is_refused(database: Database, tenant: UUID, count_orders: Count) -> None:
    """W-01: a key that comes back with another payload is a mistake of the client's."""
    place_alone(database, tenant, "lamp")
    with pytest.raises(KeyReused):
        place_alone(database, tenant, "table")
    assert count_orders(tenant) == 1


def test_keys_are_of_a_tenant_and_an_operation(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """W-01, Q-10: the same key of another tenant or operation is another key."""
    assert place_alone(database, tenant) == (1, False)
    assert place_alone(database, other_tenant) == (1, False)
    with database.transaction(tenant) as tx:
        other = Operation("refund").once(tx, lambda: {"refund": 1}, key="k", payload={})
    assert not other.replayed


def test_duplicate_in_flight_waits_and_replays(
    database: Database,
    admin: Connection[DictRow],
    tenant: UUID,
    count_orders: Count,
    pool: ThreadPoolExecutor,
) -> None:
    """W-01: of two at once, the second waits for the first one's commit and gets its answer."""
    with database.transaction(tenant) as tx:
        assert place(tx) == (1, False)
        second = pool.submit(place_alone, database, tenant)
        wait_until_blocked(admin)
    assert second.result() == (1, True)
    assert count_orders(tenant) == 1


def test_duplicate_works_when_first_rolls_back(
    database: Database, admin: Connection[DictRow], tenant: UUID, pool: ThreadPoolExecutor
) -> None:
    """W-01: the second of two at once does the work when the first one's failed."""
    with pytest.raises(Broken), database.transaction(tenant) as tx:  # noqa: PT012
        place(tx)
        second = pool.submit(place_alone, database, tenant)
        wait_until_blocked(admin)
        raise Broken
    assert second.result() == (1, False)


def test_duplicate_gives_up_after_the_lock_timeout(
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch, count_orders: Count
) -> None:
    """W-01: a duplicate does not wait for ever; it is told to come back."""
    with database.transaction(tenant) as tx:
        place(tx)
        monkeypatch.setattr(postgres, "LOCK_TIMEOUT", "100ms")
        with pytest.raises(InUse) as refusal:
            place_alone(database, tenant)
    assert int(refusal.value.headers["Retry-After"]) > 0
    assert place_alone(database, tenant) == (1, True)
    assert count_orders(tenant) == 1


def test_many_at_once_have_one_effect(
    database: Database, tenant: UUID, count_orders: Count
) -> None:
    """W-01: however many ask, one works and all are answered alike."""
    outcomes = together(*[lambda: place_alone(database, tenant)] * 8)
    assert sorted(outcomes) == [(1, False)] + [(1, True)] * 7
    assert count_orders(tenant) == 1


@pytest.mark.parametrize(("setting", "hours"), [("", 24), ("0.5", 0.5)])
def test_time_to_live(
    database: Database,
    admin: Connection[DictRow],
    tenant: UUID,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    hours: float,
) -> None:
    """W-02: an answer is kept for 24 hours unless the setting says otherwise."""
    monkeypatch.setenv("IDEMPOTENCY_TTL_HOURS", setting)
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
    """W-02: after its time a key is as good as new, whatever the payload."""
    place_alone(database, tenant)
    expire(admin, tenant)
    assert place_alone(database, tenant, "table") == (2, False)
    assert place_alone(database, tenant, "table") == (2, True)


def test_expired_key_works_once(
    database: Database, admin: Connection[DictRow], tenant: UUID
) -> None:
    """W-02: of many that find a key expired at once, one takes it."""
    place_alone(database, tenant)
    expire(admin, tenant)
    outcomes = together(*[lambda: place_alone(database, tenant)] * 6)
    assert sorted(outcomes) == [(2, False)] + [(2, True)] * 5


def test_invalidated_key_works_again(database: Database, tenant: UUID, other_tenant: UUID) -> None:
    """W-02: one key can be forgotten, the tenant's own alone."""
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
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-02: a record that is deleted between claim and look is claimed anew."""
    place_alone(database, tenant)
    find = idempotency_records.find
    found: list[int] = []

    def vanished(tx: Transaction, name: idempotency_records.Name) -> Any:
        if not found:
            found.append(invalidate(tx, "k"))
        return find(tx, name)

    monkeypatch.setattr(idempotency_records, "find", vanished)
    assert place_alone(database, tenant) == (2, False)
    assert found == [1]


def test_figures(database: Database, tenant: UUID, capsys: pytest.CaptureFixture[str]) -> None:
    """W-08: hits, misses and conflicts are counted per operation."""
    place_alone(database, tenant)
    place_alone(database, tenant)
    with pytest.raises(KeyReused):
        place_alone(database, tenant, "table")
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    counted = [
        (figure["operation"], figure["outcome"], figure["idempotency_requests_count"])
        for figure in figures
        if "idempotency_requests_count" in figure
    ]
    assert counted == [("order", outcome, [1.0]) for outcome in ("miss", "hit", "conflict")]


def test_killed_before_commit(
    spawn: Spawn,
    shop: Shop,
    admin: Connection[DictRow],
    tenant: UUID,
    count_orders: Count,
) -> None:
    """C-08: a function killed when all but the commit is done leaves nothing; a retry does all."""
    child = spawn("request", json.dumps(shop.event("lamp", "k")), until="before commit")
    assert open_claims(admin) == 1
    child.send_signal(signal.SIGKILL)
    child.wait()
    answer = shop("lamp", "k")
    assert (answer.status, answer.body["number"]) == (201, 1)
    assert (count_orders(tenant), records(admin, tenant)) == (1, 1)


def test_two_requests_at_once(
    spawn: Spawn,
    shop: Shop,
    admin: Connection[DictRow],
    tenant: UUID,
    count_orders: Count,
    pool: ThreadPoolExecutor,
) -> None:
    """W-01, W-03: of two equal requests in two functions, the second is answered from the first."""
    child = spawn("request", json.dumps(shop.event("lamp", "k")), until="before commit")
    second = pool.submit(shop, "lamp", "k")
    wait_until_blocked(admin)
    first = json.loads(let_go(child))
    assert (first["status"], second.result().status) == (201, 200)
    assert second.result().text == first["body"]
    assert second.result().headers["idempotency-replayed"] == "true"
    assert count_orders(tenant) == 1


def expire(admin: Connection[DictRow], tenant: UUID) -> None:
    admin.execute(
        "update skald.idempotency_cache set expires_at = now() where tenant_id = %s", (tenant,)
    )


def open_claims(admin: Connection[DictRow]) -> int:
    """Count transactions that wrote idempotency records and have not ended."""
    row = admin.execute(
        "select count(distinct pid) as count from pg_locks"
        " where relation = 'skald.idempotency_cache'::regclass and mode = 'RowExclusiveLock'"
    ).fetchone()
    return int(row["count"]) if row else 0
