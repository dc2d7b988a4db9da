"""Q-05, C-07: one effect per message and consumer, one effect per step, also in races."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.support import event, together, wait_until_blocked

from skald.messaging import inbox
from skald.postgres import Database, Transaction
from skald.saga import SagaLog


class Broken(Exception):
    """The error of the first of two attempts."""


# Inbox --------------------------------------------------------------------------------------------


def accepting(database: Database, tenant: UUID, consumer: str = "c") -> Callable[[], bool]:
    def accept() -> bool:
        with database.transaction(tenant) as tx:
            return inbox.accept(tx, event(tenant), consumer)

    return accept


def test_a_repeated_message_takes_effect_once(database: Database, tenant: UUID) -> None:
    """Q-05: an event that is sent twice has one effect."""
    accept = accepting(database, tenant)
    assert [accept(), accept()] == [True, False]


def test_each_consumer_takes_its_own_effect(database: Database, tenant: UUID) -> None:
    """Q-05: the key is event and consumer."""
    assert accepting(database, tenant, "one")()
    assert accepting(database, tenant, "two")()


def test_an_event_id_of_another_tenant_is_another_event(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-10: a tenant cannot mark the message of another tenant as handled."""
    with database.transaction(tenant) as tx:
        assert inbox.accept(tx, event(tenant), "c")
    with database.transaction(other_tenant) as tx:
        assert inbox.accept(tx, event(tenant), "c")


def test_racing_deliveries_take_effect_once(database: Database, tenant: UUID) -> None:
    """Q-05: of several deliveries at the same moment exactly one takes effect."""
    outcomes = together(*[accepting(database, tenant)] * 6)
    assert sorted(outcomes) == [False] * 5 + [True]


@pytest.mark.parametrize("first_commits", [True, False])
def test_the_second_delivery_waits_for_the_first(
    database: Database, tenant: UUID, admin: Connection[DictRow], first_commits: bool
) -> None:
    """Q-05: it ends when the first commits, and does the work when the first rolls back."""

    def first(pool: ThreadPoolExecutor) -> Any:
        with database.transaction(tenant) as tx:
            assert inbox.accept(tx, event(tenant), "c")
            second = pool.submit(accepting(database, tenant))
            wait_until_blocked(admin)
            assert not second.done()
            seconds.append(second)
            if not first_commits:
                raise Broken

    seconds: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        if first_commits:
            first(pool)
        else:
            with pytest.raises(Broken):
                first(pool)
        assert seconds[0].result() is not first_commits


# Saga log -----------------------------------------------------------------------------------------


def effect(tx: Transaction, number: int) -> dict[str, Any]:
    """Write a row that can be counted, and return the number of this attempt."""
    inbox.accept(tx, event(tx.tenant_id, number=number), "effect")
    return {"attempt": number}


def attempt(database: Database, tenant: UUID, number: int, saga: str = "saga") -> dict[str, Any]:
    with database.transaction(tenant) as tx:
        return SagaLog(tx, saga).run_step("step", lambda: effect(tx, number))


def effects(database: Database, tenant: UUID) -> int:
    with database.transaction(tenant) as tx:
        return int(tx.value("select count(*) from skald.inbox where consumer = 'effect'"))


def test_a_retried_step_returns_what_it_recorded(database: Database, tenant: UUID) -> None:
    """C-07: the effect happens once and every attempt has the same result."""
    assert [attempt(database, tenant, number) for number in (1, 2)] == [{"attempt": 1}] * 2
    assert effects(database, tenant) == 1


def test_effect_and_record_commit_together(database: Database, tenant: UUID) -> None:
    """C-07: a step that fails after its effect leaves neither effect nor record."""

    def break_after_effect() -> None:
        with database.transaction(tenant) as tx:
            SagaLog(tx, "saga").run_step("step", lambda: effect(tx, 1))
            raise Broken

    with pytest.raises(Broken):
        break_after_effect()
    assert effects(database, tenant) == 0
    with database.transaction(tenant) as tx:
        assert SagaLog(tx, "saga").recorded("step") is None
    assert attempt(database, tenant, 2) == {"attempt": 2}


def test_records_of_steps_and_sagas_are_separate(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """C-07, Q-10: a record counts only for its own saga, step and tenant."""
    assert attempt(database, tenant, 1) == {"attempt": 1}
    assert attempt(database, tenant, 2, saga="other") == {"attempt": 2}
    assert attempt(database, other_tenant, 3) == {"attempt": 3}
    with database.transaction(tenant) as tx:
        assert SagaLog(tx, "saga").run_step("other", lambda: effect(tx, 4)) == {"attempt": 4}


def test_racing_attempts_run_the_effect_once(database: Database, tenant: UUID) -> None:
    """C-07: all attempts at the same moment return the result of one."""
    works = [(lambda n=n: attempt(database, tenant, n)) for n in range(6)]
    results = together(*works)
    assert len({result["attempt"] for result in results}) == 1
    assert effects(database, tenant) == 1


@pytest.mark.parametrize("first_commits", [True, False])
def test_the_second_attempt_waits_for_the_first(
    database: Database, tenant: UUID, admin: Connection[DictRow], first_commits: bool
) -> None:
    """C-07: it returns the first result, or does the work when the first rolled back."""

    def first(pool: ThreadPoolExecutor) -> None:
        with database.transaction(tenant) as tx:
            SagaLog(tx, "saga").run_step("step", lambda: effect(tx, 1))
            seconds.append(pool.submit(attempt, database, tenant, 2))
            wait_until_blocked(admin)
            if not first_commits:
                raise Broken

    seconds: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        if first_commits:
            first(pool)
        else:
            with pytest.raises(Broken):
                first(pool)
        assert seconds[0].result() == {"attempt": 1 if first_commits else 2}
    assert effects(database, tenant) == 1
