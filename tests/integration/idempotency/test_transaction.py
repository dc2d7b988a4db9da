"""C-08, W-01: claim, effect, outbox row and answer are one transaction."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.errors import DivisionByZero
from psycopg.rows import DictRow
from tests.integration.idempotency.conftest import Shop, Spawn, let_go
from tests.integration.idempotency.orders import ORDER, Way, place_alone, place_once
from tests.integration.support import round_trips, together, wait_until_blocked

from skald.idempotency import InUse, KeyReused, Operation
from skald.postgres import Database, pool

pytestmark = pytest.mark.usefixtures("rows_first")

type Count = Callable[[UUID], int]


class Broken(Exception):
    """The error that a test raises in the middle of a transaction."""


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


def test_claim_and_answer_share_the_round_trips_of_begin_and_commit(
    database: Database, tenant: UUID, *, rows_first: bool
) -> None:
    """C-08: a key costs at most one round trip; a replay takes one round trip in all."""
    assert round_trips(Way.open(database, tenant), place_once) == (2 if rows_first else 3)
    assert round_trips(Way.open(database, tenant), place_once) == (2 if rows_first else 3)


def test_empty_answer_replays(database: Database, tenant: UUID) -> None:
    """W-01: an empty answer is stored and returned too."""
    for replayed in (False, True):
        with database.transaction(tenant) as tx:
            answer = ORDER.run(tx, dict, key="k", payload=None)
        assert (answer.result, answer.replayed) == ({}, replayed)


def test_rollback_takes_all(
    database: Database, admin: Connection[DictRow], tenant: UUID, count_orders: Count
) -> None:
    """C-08: after a rollback there is no effect, no claim and no answer."""
    with pytest.raises(Broken), Way.open(database, tenant) as tx:  # noqa: PT012
        assert place_once(tx) == (1, False)
        assert place_once(tx) == (1, True)
        raise Broken
    assert (count_orders(tenant), records(admin, tenant)) == (0, 0)
    assert place_alone(database, tenant) == (1, False)


def test_failed_work_frees_the_key(database: Database, tenant: UUID) -> None:
    """C-08: the caller gets the error of the work, also one of PostgreSQL, and the key is free."""

    def broken() -> dict[str, Any]:
        raise Broken

    with pytest.raises(Broken), Way.open(database, tenant) as tx:
        place_once(tx, work=broken)
    with pytest.raises(DivisionByZero), Way.open(database, tenant) as tx:
        place_once(tx, work=lambda: {"number": tx.value("select 1 / 0")})
    assert place_alone(database, tenant) == (1, False)


def test_claim_of_swallowed_failure_is_free(database: Database, tenant: UUID) -> None:
    """C-08: a caller that commits after a failure leaves a claim that the next caller may take."""

    def broken() -> dict[str, Any]:
        raise Broken

    with Way.open(database, tenant) as tx, pytest.raises(Broken):
        place_once(tx, work=broken)
    assert place_alone(database, tenant) == (1, False)


def test_other_payload_is_refused(database: Database, tenant: UUID, count_orders: Count) -> None:
    """W-01: a key with another payload is an error of the client."""
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
        other = Operation("refund").run(tx, lambda: {"refund": 1}, key="k", payload={})
    assert not other.replayed


def test_duplicate_in_flight_waits_and_replays(
    database: Database,
    admin: Connection[DictRow],
    tenant: UUID,
    count_orders: Count,
    pool: ThreadPoolExecutor,
) -> None:
    """W-01: of two calls at once, the second waits for the first commit and returns its answer."""
    with Way.open(database, tenant) as tx:
        assert place_once(tx) == (1, False)
        second = pool.submit(place_alone, database, tenant)
        wait_until_blocked(admin)
    assert second.result() == (1, True)
    assert count_orders(tenant) == 1


def test_duplicate_works_when_first_rolls_back(
    database: Database, admin: Connection[DictRow], tenant: UUID, pool: ThreadPoolExecutor
) -> None:
    """W-01: of two calls at once, the second does the work if the first one fails."""
    with pytest.raises(Broken), Way.open(database, tenant) as tx:  # noqa: PT012
        place_once(tx)
        second = pool.submit(place_alone, database, tenant)
        wait_until_blocked(admin)
        raise Broken
    assert second.result() == (1, False)


def test_duplicate_gives_up_after_the_lock_timeout(
    database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch, count_orders: Count
) -> None:
    """W-01: a duplicate waits for the lock timeout at most, then is asked to come back."""
    with Way.open(database, tenant) as tx:
        place_once(tx)
        monkeypatch.setattr(pool, "LOCK_TIMEOUT", "100ms")
        with pytest.raises(InUse) as refusal:
            place_alone(database, tenant)
    assert int(refusal.value.headers["Retry-After"]) > 0
    assert place_alone(database, tenant) == (1, True)
    assert count_orders(tenant) == 1


def test_many_at_once_have_one_effect(
    database: Database, tenant: UUID, count_orders: Count
) -> None:
    """W-01: one of many calls works, and all get the same answer."""
    outcomes = together(*[lambda: place_alone(database, tenant)] * 8)
    assert sorted(outcomes) == [(1, False)] + [(1, True)] * 7
    assert count_orders(tenant) == 1


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


def test_two_requests_at_once(
    spawn: Spawn,
    shop: Shop,
    admin: Connection[DictRow],
    tenant: UUID,
    count_orders: Count,
    pool: ThreadPoolExecutor,
) -> None:
    """W-01, W-03: of two equal requests in two functions, the second gets the first answer."""
    child = spawn("request", json.dumps(shop.event("lamp", "k")), until="before commit")
    second = pool.submit(shop, "lamp", "k")
    wait_until_blocked(admin)
    first = json.loads(let_go(child))
    assert (first["status"], second.result().status) == (201, 200)
    assert second.result().text == first["body"]
    assert second.result().headers["idempotency-replayed"] == "true"
    assert count_orders(tenant) == 1


def test_a_killed_request_leaves_the_work_to_its_duplicate(
    spawn: Spawn,
    shop: Shop,
    admin: Connection[DictRow],
    tenant: UUID,
    count_orders: Count,
    pool: ThreadPoolExecutor,
) -> None:
    """C-08, W-03: a function that dies before its commit frees the key at once."""
    child = spawn("request", json.dumps(shop.event("lamp", "k")), until="before commit")
    second = pool.submit(shop, "lamp", "k")
    wait_until_blocked(admin)
    child.kill()
    assert second.result().status == 201
    assert count_orders(tenant) == 1
