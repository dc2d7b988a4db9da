"""G-07: ordered steps, compensation in reverse, crashes at every boundary, manual intervention."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tests.integration.conftest import Servers
from tests.integration.saga.orders import NAMES, Order, World, effects, undone
from tests.integration.support import together

from skald.errors import Conflict, Temporary
from skald.postgres import Database, Transaction
from skald.saga import SagaLog, SagaStatus, coordinator
from skald.saga.coordinator import resume, run

ROOT = Path(__file__).parents[3]


def broken() -> None:
    raise ZeroDivisionError("broken")


def flaky(times: int) -> Callable[[], None]:
    """Fail temporarily this many times."""
    left = [None] * times

    def fail() -> None:
        if left:
            left.pop()
            raise Temporary("lost")

    return fail


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "STEP_WAITS", (0.0, 0.0))
    monkeypatch.setattr(coordinator, "COMPENSATION_WAITS", (0.0, 0.0))


class Shop:
    """Runs orders of one tenant and counts their effects."""

    def __init__(self, database: Database, tenant: UUID, folder: Path) -> None:
        self.database = database
        self.tenant = tenant
        self.order = Order(folder=str(folder))
        self.saga_id = str(uuid4())
        self.folder = folder

    def run(
        self, world: World, pivot: str | None = None, plain: tuple[str, ...] = ()
    ) -> SagaStatus:
        saga = world.saga(pivot=pivot, plain=plain)
        return run(self.database, saga, self.tenant, self.saga_id, self.order)

    def rows(self) -> dict[str, tuple[int, int]]:
        """Return how often effect and compensation of each step are in the database."""
        with self.database.transaction(self.tenant) as tx:
            return {name: (effects(tx, name), undone(tx, name)) for name in NAMES}

    def marks(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def statuses(self) -> dict[str, str]:
        with self.database.transaction(self.tenant) as tx:
            return SagaLog(tx, self.saga_id).statuses()


@pytest.fixture
def shop(database: Database, tenant: UUID, tmp_path: Path) -> Shop:
    return Shop(database, tenant, tmp_path)


# Forward ------------------------------------------------------------------------------------------


def test_steps_happen_in_order_and_once(shop: Shop) -> None:
    """G-07: a completed saga that runs again changes nothing."""
    world = World()
    assert [shop.run(world), shop.run(world)] == [SagaStatus.COMPLETED] * 2
    assert world.happened == [f"{part}:{name}" for name in NAMES for part in ("work", "effect")]
    assert shop.rows() == dict.fromkeys(NAMES, (1, 0))


def test_a_saga_of_rows_needs_one_commit_per_step(shop: Shop, servers: Servers) -> None:
    """G-07: effect, record, begin and end of the saga share the commits of the steps."""
    commits: list[UUID | None] = []

    class Counting(Database):
        @contextmanager
        def transaction(self, tenant_id: UUID | None) -> Iterator[Transaction]:
            with super().transaction(tenant_id) as transaction:
                yield transaction
            commits.append(tenant_id)

    shop.database = Counting(servers.app_dsn)
    assert shop.run(World(), plain=NAMES) is SagaStatus.COMPLETED
    shop.database.close()
    assert len(commits) == 3


def test_temporary_failures_are_retried(shop: Shop) -> None:
    """G-07: a step that fails temporarily is tried again, and its effect happens once."""
    world = World({"effect:charge": flaky(2)})
    assert shop.run(world) is SagaStatus.COMPLETED
    assert shop.rows() == dict.fromkeys(NAMES, (1, 0))


def test_an_id_belongs_to_one_command(shop: Shop, tmp_path: Path) -> None:
    """G-07: another command under a known id is refused."""
    shop.run(World())
    shop.order = Order(folder="elsewhere")
    with pytest.raises(Conflict):
        shop.run(World())


def test_racing_coordinators_do_everything_once(shop: Shop) -> None:
    """G-07: the coordinator that records a step first wins; the other rolls its effect back."""
    outcomes = together(*[lambda: shop.run(World(), plain=NAMES)] * 4)
    assert outcomes == [SagaStatus.COMPLETED] * 4
    assert shop.rows() == dict.fromkeys(NAMES, (1, 0))


def test_sagas_of_tenants_are_separate(shop: Shop, other_tenant: UUID, tmp_path: Path) -> None:
    """Q-10: the same saga id of another tenant is another saga."""
    shop.run(World())
    foreign = Shop(shop.database, other_tenant, tmp_path)
    foreign.saga_id = shop.saga_id
    assert foreign.rows() == dict.fromkeys(NAMES, (0, 0))
    assert foreign.run(World()) is SagaStatus.COMPLETED
    assert foreign.rows() == dict.fromkeys(NAMES, (1, 0))


# Backward -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["work", "effect"])
@pytest.mark.parametrize("failing", range(3))
def test_a_failure_compensates_what_was_done_and_the_unknown_in_reverse(
    shop: Shop, place: str, failing: int
) -> None:
    """G-07: the work of the failed step may have happened, so that step is undone first."""
    world = World({f"{place}:{NAMES[failing]}": broken})
    assert shop.run(world) is SagaStatus.COMPENSATED
    undos = [what for what in world.happened if what.startswith("undo")]
    assert undos == [f"undo:{name}" for name in reversed(NAMES[: failing + 1])]
    assert shop.marks() == set()
    assert shop.rows() == {
        name: (int(number < failing), int(number <= failing)) for number, name in enumerate(NAMES)
    }
    assert shop.run(World()) is SagaStatus.COMPENSATED, "a compensated saga stays so"


def test_a_failed_effect_without_work_needs_no_compensation(shop: Shop) -> None:
    """G-07: an effect that was rolled back needs no compensation."""
    world = World({"effect:ship": broken})
    assert shop.run(world, plain=NAMES) is SagaStatus.COMPENSATED
    assert shop.rows() == {"reserve": (1, 1), "charge": (1, 1), "ship": (0, 0)}
    assert shop.statuses() == {"reserve": "compensated", "charge": "compensated", "ship": "failed"}


def test_a_timed_out_step_is_unknown(shop: Shop) -> None:
    """G-07: after a timeout it is unknown whether the work happened."""

    def time_out() -> None:
        raise TimeoutError

    assert shop.run(World({"work:charge": time_out})) is SagaStatus.COMPENSATED
    assert shop.marks() == set()


def test_a_compensation_is_tried_longer(shop: Shop) -> None:
    """G-07: a compensation that fails with any error is tried again."""
    failures = iter([True, True])

    def fail_twice() -> None:
        if next(failures, False):
            broken()

    world = World({"effect:ship": broken, "undo:charge": fail_twice})
    assert shop.run(world) is SagaStatus.COMPENSATED
    assert shop.marks() == set()


def test_a_compensation_that_keeps_failing_waits_for_a_person(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """G-07: it is logged and marked for manual intervention, and no earlier step is undone."""
    world = World({"effect:ship": broken, "compensation:charge": broken})
    assert shop.run(world) is SagaStatus.MANUAL_INTERVENTION
    assert shop.statuses() == {
        "reserve": "completed",
        "charge": "compensation_failed",
        "ship": "compensated",
    }
    assert shop.rows()["charge"] == (1, 0), "the failed compensation left nothing half-done"
    assert shop.run(World()) is SagaStatus.MANUAL_INTERVENTION


def test_nothing_is_compensated_after_the_pivot(shop: Shop) -> None:
    """G-07: a failure after the pivot parks the saga and undoes nothing."""
    world = World({"effect:ship": broken})
    assert shop.run(world, pivot="charge") is SagaStatus.MANUAL_INTERVENTION
    assert shop.rows() == {"reserve": (1, 0), "charge": (1, 0), "ship": (0, 0)}
    assert not [what for what in world.happened if what.startswith(("undo", "compensation"))]


def test_after_the_pivot_a_temporary_failure_is_resumed(shop: Shop) -> None:
    """G-07: after the pivot the saga only goes forward, in this process or the next."""
    assert shop.run(World({"effect:ship": flaky(9)}), pivot="charge") is SagaStatus.RUNNING
    saga = World().saga(pivot="charge")
    assert resume(shop.database, saga, shop.tenant, shop.saga_id) is SagaStatus.COMPLETED
    assert shop.rows() == dict.fromkeys(NAMES, (1, 0))


# Crashes ------------------------------------------------------------------------------------------

type Kill = Callable[[str], None]


@pytest.fixture
def kill_at(servers: Servers, shop: Shop) -> Iterator[Kill]:
    """Run the saga in a child process and kill it where it stops."""
    paths = [ROOT / "layers/core", ROOT / "functions", ROOT]
    environment = os.environ | {
        "POSTGRES_DSN": servers.app_dsn,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "LOG_LEVEL": "CRITICAL",
    }

    def kill(place: str) -> None:
        arguments = [str(shop.tenant), shop.saga_id, shop.order.folder, place]
        with subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", "tests.integration.saga.orders", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert "stopped\n" in child.stdout
            child.kill()

    return kill  # type: ignore[return-value]


@pytest.mark.parametrize(
    "place", [f"{part}:{name}" for name in NAMES for part in ("work", "effect")]
)
def test_a_killed_saga_that_then_fails_is_compensated(
    shop: Shop, kill_at: Kill, place: str
) -> None:
    """G-07, Q-09: the steps of the dead process are undone, including its unknown step."""
    kill_at(place)
    world = World({place: broken})
    assert resume(shop.database, world.saga(), shop.tenant, shop.saga_id) is SagaStatus.COMPENSATED
    assert shop.marks() == set()
    assert all(effect <= undone <= 1 for effect, undone in shop.rows().values())
