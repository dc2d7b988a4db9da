"""C-08: work with effects outside the database, which a token owns until its lease ends."""

import json
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.idempotency.conftest import Spawn, let_go
from tests.integration.support import wait_until

from skald.errors import Temporary
from skald.idempotency import InUse, KeyReused, LeaseLost, Operation, Outcome, invalidate
from skald.postgres import Database

RENDER = Operation("render")
MINUTE = timedelta(minutes=1)


class Broken(Exception):
    """The error that a test raises in the middle of the work."""


class Renderer:
    """Renders under a key, as one of several owners."""

    def __init__(self, database: Database, tenant: UUID) -> None:
        self._database = database
        self._tenant = tenant

    def __call__(
        self,
        by: str = "first",
        *,
        payload: Any = None,
        lease: timedelta = MINUTE,
        meanwhile: Any = lambda: None,
    ) -> Outcome:
        def work() -> dict[str, Any]:
            meanwhile()
            return {"by": by}

        return RENDER.run_outside(
            self._database, self._tenant, work, key="k", payload=payload or {}, lease=lease
        )

    def is_free(self, by: str) -> bool:
        """Try to work. Returns False while another owner holds the key."""
        try:
            self(by)
        except InUse:
            return False
        return True


@pytest.fixture
def render(database: Database, tenant: UUID) -> Renderer:
    return Renderer(database, tenant)


def expire_lease(admin: Connection[DictRow], tenant: UUID) -> None:
    admin.execute(
        "update skald.idempotency_cache set leased_until = now() where tenant_id = %s", (tenant,)
    )


def test_second_call_replays(render: Renderer) -> None:
    """C-08: the answer is stored and returned again; another payload is refused."""
    assert render("first") == Outcome({"by": "first"}, replayed=False)
    assert render("second") == Outcome({"by": "first"}, replayed=True)
    with pytest.raises(KeyReused):
        render(payload={"page": 2})


def test_duplicate_is_refused_while_the_lease_holds(render: Renderer) -> None:
    """C-08: a duplicate does not wait for a model; it gets an error with `Retry-After`."""

    def ask_again() -> None:
        with pytest.raises(InUse):
            render("second")

    assert render("first", meanwhile=ask_again).result == {"by": "first"}


def test_work_runs_outside_a_transaction(render: Renderer, admin: Connection[DictRow]) -> None:
    """C-08: no transaction stays open during the work."""

    def is_none_open() -> bool:
        # Sessions of processes that other tests killed may still exist for a moment.
        row = admin.execute(
            "select count(*) as open from pg_stat_activity where state = 'idle in transaction'"
            " and datname = current_database()"
        ).fetchone()
        return row is not None and row["open"] == 0

    render(meanwhile=lambda: wait_until(is_none_open, "transactions to end", seconds=20))


def test_failed_work_frees_the_key(render: Renderer) -> None:
    """C-08: the caller gets the error of the work, and the next caller does not wait."""

    def fail() -> None:
        raise Broken

    with pytest.raises(Broken):
        render("first", meanwhile=fail)
    assert render("second", payload={"page": 2}).result == {"by": "second"}


def test_late_owner_cannot_overwrite_its_successor(
    render: Renderer, admin: Connection[DictRow], tenant: UUID
) -> None:
    """C-08: an owner whose lease ended stores nothing, whether its successor works or is done."""

    def overtaken() -> None:
        expire_lease(admin, tenant)
        assert render("second").result == {"by": "second"}

    with pytest.raises(LeaseLost) as lost:
        render("first", meanwhile=overtaken)
    assert isinstance(lost.value, Temporary)
    assert render("first") == Outcome({"by": "second"}, replayed=True)


@pytest.mark.parametrize("failure", [None, Broken()])
def test_late_owner_cannot_touch_a_successor_at_work(
    render: Renderer,
    admin: Connection[DictRow],
    tenant: UUID,
    pool: ThreadPoolExecutor,
    failure: Exception | None,
) -> None:
    """C-08: a late owner neither stores an answer for its successor nor frees its key."""
    at_work, go_on = Event(), Event()

    def overtaken() -> None:
        expire_lease(admin, tenant)
        successors.append(pool.submit(render, "second", meanwhile=wait))
        assert at_work.wait(60)
        if failure:
            raise failure

    def wait() -> None:
        at_work.set()
        assert go_on.wait(60)

    successors: list[Future[Outcome]] = []
    with pytest.raises(type(failure) if failure else LeaseLost):
        render("first", meanwhile=overtaken)
    assert not render.is_free("third")
    go_on.set()
    assert successors[0].result() == Outcome({"by": "second"}, replayed=False)


def test_abandoned_key_keeps_its_payload(
    render: Renderer, admin: Connection[DictRow], tenant: UUID, spawn: Spawn
) -> None:
    """C-08: after the lease of a killed owner the key accepts only the same request."""
    child = spawn("lease", str(tenant), "k", "60", until="at work")
    child.kill()
    assert not render.is_free("second")
    expire_lease(admin, tenant)
    with pytest.raises(KeyReused):
        render("second", payload={"page": 2})
    assert render("second") == Outcome({"by": "second"}, replayed=False)


def test_stopped_owner_cannot_overwrite_its_successor(
    render: Renderer, tenant: UUID, spawn: Spawn
) -> None:
    """C-08: a function that freezes for longer than its lease changes nothing afterwards."""
    child = spawn("lease", str(tenant), "k", "0.3", until="at work")
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: render.is_free("second"), "the lease to end")
    child.send_signal(signal.SIGCONT)
    assert let_go(child) == "lease lost"
    assert render("third") == Outcome({"by": "second"}, replayed=True)


def test_owner_in_time_answers(render: Renderer, tenant: UUID, spawn: Spawn) -> None:
    """C-08: the answer of the same owner is stored if it was not stopped."""
    child = spawn("lease", str(tenant), "k", "60", until="at work")
    assert json.loads(let_go(child)) == {"by": "child"}
    assert render("second") == Outcome({"by": "child"}, replayed=True)


def test_claim_at_work_cannot_be_invalidated(
    render: Renderer, database: Database, tenant: UUID
) -> None:
    """W-02: if a key could be invalidated during the work, the work could run twice at once."""

    def forget() -> None:
        with database.transaction(tenant) as tx:
            assert invalidate(tx, "k") == 0

    render("first", meanwhile=forget)
    assert render("second").replayed
