"""G-14: a signal and its wait meet in either order, once."""

import json
import threading
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.conftest import Context
from tests.integration.support import together, wait_until_blocked

from operations import reconciler
from skald.errors import TooLarge
from skald.postgres import Database
from skald.saga import signals, tokens
from skald.saga.signals import Signal


class Gone(Exception):
    """The error of Step Functions for a task token that it does not wait for."""


class Machines:
    """A fake of Step Functions: it accepts each open token once."""

    class exceptions:  # noqa: N801  # as boto3 calls it
        TaskTimedOut = TaskDoesNotExist = InvalidToken = Gone

    def __init__(self) -> None:
        self.closed: set[str] = set()
        self.answers: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def send_task_success(self, taskToken: str, output: str) -> None:  # noqa: N803
        with self._lock:
            if taskToken in self.closed:
                raise Gone(taskToken)
            self.closed.add(taskToken)
            self.answers.append((taskToken, json.loads(output)))


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    machines = Machines()
    monkeypatch.setattr(tokens, "client", lambda _: machines)
    return machines


def send(database: Database, tenant: UUID, **payload: Any) -> bool:
    with database.transaction(tenant) as tx:
        return signals.send(database, tx, "saga", "approved", payload)


def wait(database: Database, tenant: UUID, token: str = "token") -> None:  # noqa: S107
    with database.transaction(tenant) as tx:
        signals.wait(database, tx, "saga", "approved", token)


def test_the_event_wakes_the_step_that_waits(
    database: Database, tenant: UUID, machines: Machines
) -> None:
    """G-14: the wait comes first."""
    wait(database, tenant)
    assert machines.answers == []
    assert send(database, tenant, by="ann")
    assert machines.answers == [("token", {"by": "ann"})]


def test_an_event_before_its_wait_is_kept(
    database: Database, tenant: UUID, machines: Machines
) -> None:
    """G-14: the event comes first."""
    assert send(database, tenant, by="ann")
    assert machines.answers == []
    wait(database, tenant)
    assert machines.answers == [("token", {"by": "ann"})]


def test_the_first_event_counts(database: Database, tenant: UUID, machines: Machines) -> None:
    """G-14: an event that is sent twice is answered once."""
    wait(database, tenant)
    assert send(database, tenant, by="ann")
    assert not send(database, tenant, by="bob")
    assert machines.answers == [("token", {"by": "ann"})]


def test_events_at_once(database: Database, tenant: UUID, machines: Machines) -> None:
    """G-14: four real transactions send, one waits; one event is stored, one answer is given."""

    def waits() -> bool:
        wait(database, tenant)
        return False

    results = together(*(lambda by=by: send(database, tenant, by=by) for by in range(4)), waits)
    assert sum(results) == 1
    assert machines.answers == [("token", {"by": results.index(True)})]


def test_a_wait_that_meets_an_uncommitted_event_sees_it(
    database: Database, tenant: UUID, machines: Machines, admin: Connection[DictRow]
) -> None:
    """G-14: neither may miss the other, so the second waits for the row of the first."""
    with database.transaction(tenant) as tx:
        signals.send(database, tx, "saga", "approved", {"by": "ann"})
        waiting = threading.Thread(target=wait, args=(database, tenant))
        waiting.start()
        wait_until_blocked(admin)
    waiting.join()
    assert machines.answers == [("token", {"by": "ann"})]


def test_an_event_after_the_end_is_settled(
    database: Database, tenant: UUID, machines: Machines
) -> None:
    """G-14: the wait timed out or the execution ended, so the event is not tried again."""
    wait(database, tenant)
    machines.closed.add("token")
    assert send(database, tenant)
    assert machines.answers == []
    assert not signals.deliver(database, Signal(tenant_id=tenant, saga_id="saga", name="approved"))


def test_a_retried_wait_gets_a_new_answer(
    database: Database, tenant: UUID, machines: Machines
) -> None:
    """G-14: the token of the first attempt is dead; the token of the second gets the answer."""
    wait(database, tenant, "first")
    machines.closed.add("first")
    send(database, tenant, by="ann")
    wait(database, tenant, "second")
    wait(database, tenant, "second")
    assert machines.answers == [("second", {"by": "ann"})]


def test_a_crash_between_commit_and_answer_is_found(
    database: Database,
    relay_database: Database,
    tenant: UUID,
    machines: Machines,
    admin: Connection[DictRow],
) -> None:
    """G-14: the commit stands; the answer is given later, once."""
    wait(database, tenant)
    with database.transaction(tenant) as tx:
        signals.send(database, tx, "saga", "approved", {"by": "ann"})
        tx._after_commit.clear()
    assert signals.deliver_forgotten(relay_database, database) == 0
    admin.execute("update skald.signals set received_at = received_at - interval '1 minute'")
    assert signals.deliver_forgotten(relay_database, database) == 1
    assert signals.deliver_forgotten(relay_database, database) == 0
    assert machines.answers == [("token", {"by": "ann"})]


def test_the_schedule_that_looks_after_sagas_delivers_what_a_crash_left(
    database: Database,
    relay_database: Database,
    tenant: UUID,
    machines: Machines,
    admin: Connection[DictRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G-14: the client does not need to send the event again."""
    wait(database, tenant)
    with database.transaction(tenant) as tx:
        signals.send(database, tx, "saga", "approved", {"by": "ann"})
        tx._after_commit.clear()
    admin.execute("update skald.signals set received_at = received_at - interval '1 minute'")
    monkeypatch.setattr(reconciler, "database", lambda: database)
    monkeypatch.setattr(reconciler, "lookout", lambda: relay_database)
    monkeypatch.setattr(reconciler, "client", lambda _: machines)
    monkeypatch.setattr(reconciler, "find_silent", lambda _: [])  # sagas of other tests
    assert reconciler.reconcile({}, Context())["answered"] == 1
    assert machines.answers == [("token", {"by": "ann"})]


def test_an_unanswered_event_is_answered_by_its_repetition(
    database: Database, tenant: UUID, machines: Machines
) -> None:
    """G-14: Step Functions was unreachable; the client tries again."""
    wait(database, tenant)
    with database.transaction(tenant) as tx:
        signals.send(database, tx, "saga", "approved", {"by": "ann"})
        tx._after_commit.clear()
    assert not send(database, tenant, by="ann")
    assert machines.answers == [("token", {"by": "ann"})]


def test_another_tenant_wakes_no_step(
    database: Database, tenant: UUID, other_tenant: UUID, machines: Machines
) -> None:
    """Q-03: the same names of another tenant are another signal."""
    wait(database, tenant)
    assert send(database, other_tenant, by="eve")
    assert machines.answers == []


def test_an_event_too_large_for_a_state_is_refused(
    database: Database, tenant: UUID, machines: Machines
) -> None:
    """G-14: Step Functions would refuse it later, when the client cannot learn of it."""
    with pytest.raises(TooLarge):
        send(database, tenant, text="x" * 300_000)
