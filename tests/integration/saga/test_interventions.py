"""G-07, G-16: sagas that wait for a person are listed, and resolved once, with name and reason."""

import json
from threading import Event
from uuid import UUID, uuid4

import pytest
from psycopg import Connection, errors
from psycopg.rows import DictRow
from tests.integration.batches import Fleet
from tests.integration.support import (
    Answer,
    call,
    event,
    proxy_event,
    together,
    wait_until_blocked,
)

from batches.domain import SAGA, BatchStatus
from operations.operator_api import handler
from skald.errors import Conflict
from skald.postgres import Database
from skald.saga import SagaLog, SagaStatus, interventions
from skald.saga.interventions import Resolution

ERROR = "ZeroDivisionError: broken"


def saga(
    database: Database, tenant: UUID, status: SagaStatus = SagaStatus.MANUAL_INTERVENTION
) -> str:
    saga_id = str(uuid4())
    with database.transaction(tenant) as tx:
        log = SagaLog(tx, saga_id)
        log.begin("order", ["one"], event(tenant))
        log.move(status, SagaStatus.RUNNING, error=ERROR)
    return saga_id


def ask(
    key: str, method: str, path: str, body: object = None, query: dict[str, str] | None = None
) -> Answer:
    headers = {"X-Api-Key": key, "Content-Type": "application/json"}
    text = None if body is None else json.dumps(body)
    return call(handler, proxy_event(method, path, body=text, query=query, headers=headers))


def resolve(key: str, saga_id: str, note: str = "refunded by hand") -> Answer:
    return ask(key, "POST", f"/sagas/{saga_id}/resolve", {"note": note})


def status_of(database: Database, tenant: UUID, saga_id: str) -> SagaStatus | None:
    with database.transaction(tenant) as tx:
        state = SagaLog(tx, saga_id).state()
    return state.status if state else None


def waiting(key: str) -> list[str]:
    answer = ask(key, "GET", "/sagas", query={"status": "manual_intervention"})
    assert answer.status == 200, answer.text
    return [item["saga_id"] for item in answer.body["items"]]


def test_sagas_that_wait_for_a_person_are_listed(
    database: Database, tenant: UUID, api_key: str, other_api_key: str
) -> None:
    """G-07: newest first, with the error that parked it; other states and tenants are left out."""
    first, second = saga(database, tenant), saga(database, tenant)
    saga(database, tenant, SagaStatus.COMPENSATING)
    assert waiting(api_key) == [second, first]
    assert waiting(other_api_key) == []
    assert ask(api_key, "GET", "/sagas").body["total"] == 3
    query = {"filter": f"status:eq:{SagaStatus.MANUAL_INTERVENTION}", "sort": "started_at"}
    (oldest, _) = ask(api_key, "GET", "/sagas", query=query).body["items"]
    assert (oldest["saga_id"], oldest["error_message"]) == (first, ERROR)


def test_a_person_resolves_a_saga_and_says_why(
    database: Database, tenant: UUID, api_key: str
) -> None:
    """G-07: the saga is compensated; its timeline has the error, and who resolved it, when and
    why."""
    saga_id = saga(database, tenant)
    answer = resolve(api_key, saga_id)
    assert answer.status == 200, answer.text
    assert (answer.body["actor_id"], answer.body["note"]) == ("key:test", "refunded by hand")
    assert waiting(api_key) == []
    seen = ask(api_key, "GET", f"/sagas/{saga_id}").body
    assert (seen["status"], seen["error_message"]) == ("compensated", ERROR)
    assert seen["completed_at"]
    assert seen["intervention"] == answer.body


@pytest.mark.parametrize(
    "status", [status for status in SagaStatus if status is not SagaStatus.MANUAL_INTERVENTION]
)
def test_only_a_saga_that_waits_is_resolved(
    database: Database, tenant: UUID, api_key: str, status: SagaStatus
) -> None:
    """G-07: a running saga and an ended saga are refused."""
    saga_id = saga(database, tenant, status)
    answer = resolve(api_key, saga_id)
    assert answer.status == 409, answer.text
    assert status in answer.body["detail"]
    assert status_of(database, tenant, saga_id) is status
    assert ask(api_key, "GET", f"/sagas/{saga_id}").body["intervention"] is None


def test_of_two_operators_one_resolves(
    database: Database, tenant: UUID, admin: Connection[DictRow], api_key: str
) -> None:
    """G-07: the second waits for the first, gets the name of the first, and writes nothing."""
    saga_id = saga(database, tenant)

    has_resolved = Event()

    def early() -> None:
        with database.transaction(tenant) as tx:
            interventions.resolve(tx, saga_id, "key:early", Resolution(note="refunded"))
            has_resolved.set()
            wait_until_blocked(admin)

    def late() -> None:
        assert has_resolved.wait(timeout=60)
        with (
            pytest.raises(Conflict, match="resolved by key:early"),
            database.transaction(tenant) as tx,
        ):
            interventions.resolve(tx, saga_id, "key:late", Resolution(note="me too"))

    # Not through the handler: a Lambda environment serves one request at a time.
    together(early, late)
    answer = resolve(api_key, saga_id)
    assert (answer.status, "key:early" in answer.body["detail"]) == (409, True)
    assert ask(api_key, "GET", f"/sagas/{saga_id}").body["intervention"]["note"] == "refunded"


def test_a_foreign_saga_does_not_exist(
    database: Database, tenant: UUID, other_api_key: str
) -> None:
    """Q-10: another tenant neither sees nor resolves it."""
    saga_id = saga(database, tenant)
    assert resolve(other_api_key, saga_id).status == 404
    assert status_of(database, tenant, saga_id) is SagaStatus.MANUAL_INTERVENTION


@pytest.mark.parametrize("body", [None, {}, {"note": ""}, {"note": " \n"}, {"note": "a\x00"}])
def test_a_reason_is_asked_for(
    database: Database, tenant: UUID, api_key: str, body: object
) -> None:
    """G-07: a request without a reason is refused."""
    saga_id = saga(database, tenant)
    answer = ask(api_key, "POST", f"/sagas/{saga_id}/resolve", body)
    assert answer.status in (400, 422), answer.text
    assert status_of(database, tenant, saga_id) is SagaStatus.MANUAL_INTERVENTION


@pytest.mark.parametrize(
    "change", ["update skald.interventions set note = ''", "delete from skald.interventions"]
)
def test_the_audit_of_a_person_stays(
    database: Database, tenant: UUID, api_key: str, change: str
) -> None:
    """G-07: functions may read the audit, and may not change or delete it."""
    resolve(api_key, saga(database, tenant))
    with pytest.raises(errors.InsufficientPrivilege), database.transaction(tenant) as tx:
        tx.execute(change)


# The batch of a saga ------------------------------------------------------------------------------


def parked(fleet: Fleet, batch_id: UUID) -> None:
    """Park the saga of a batch, so that it waits for a person."""
    with fleet.database.transaction(fleet.tenant) as tx:
        log = SagaLog(tx, str(batch_id))
        log.begin(SAGA, ["one"], event(fleet.tenant))
        log.move(SagaStatus.MANUAL_INTERVENTION, SagaStatus.RUNNING, error=ERROR)


def failures(fleet: Fleet) -> int:
    with fleet.database.transaction(fleet.tenant) as tx:
        query = "select count(*) from skald.outbox where event_type = 'batch.failed'"
        return int(tx.value(query))


def test_a_batch_ends_with_its_saga(database: Database, tenant: UUID, api_key: str) -> None:
    """G-07, V-03: the batch fails with the reason, and one event says so."""
    fleet = Fleet(database, tenant)
    batch_id = fleet.diagnosing("a.log")
    parked(fleet, batch_id)
    assert [resolve(api_key, str(batch_id)).status for _ in range(2)] == [200, 409]
    batch = fleet.batch(batch_id)
    assert (batch.status, batch.failure_code) == (BatchStatus.FAILED, "resolved_by_hand")
    assert batch.failure_detail == "refunded by hand"
    assert failures(fleet) == 1


def test_a_batch_that_has_ended_stays_as_it_is(
    database: Database, tenant: UUID, api_key: str
) -> None:
    """V-03: resolving the saga does not change a completed batch."""
    fleet = Fleet(database, tenant)
    batch_id = fleet.completed("a.log")
    parked(fleet, batch_id)
    assert resolve(api_key, str(batch_id)).status == 200
    assert fleet.batch(batch_id).status is BatchStatus.COMPLETED
    assert failures(fleet) == 0
