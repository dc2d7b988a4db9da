"""C-08: the idempotency layer of Powertools on Redis; without Redis it is only slower."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from tests.integration.support import MortalValkey, wait_until

from skald.idempotency import InUse, Operation
from skald.valkey import connect

CHART = Operation("chart")
MINUTE = timedelta(minutes=1)


class Broken(Exception):
    """The error that a test raises in the middle of the work."""


class Painter:
    """Draws charts and counts them."""

    def __init__(self, client: redis.Redis, tenant: UUID) -> None:
        self._client = client
        self._tenant = tenant
        self.drawn = 0

    def __call__(
        self,
        key: Any = "k",
        lease: timedelta = MINUTE,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> tuple[int, bool]:
        def work() -> dict[str, Any]:
            self.drawn += 1
            meanwhile()
            return {"number": self.drawn}

        answer = CHART.run_cached(self._client, self._tenant, work, key=key, lease=lease)
        return answer.result["number"], answer.replayed


@pytest.fixture
def paint(valkey: redis.Redis, tenant: UUID) -> Painter:
    return Painter(valkey, tenant)


def test_answers_are_kept_in_redis(paint: Painter, valkey: redis.Redis, tenant: UUID) -> None:
    """C-08: the work does not run while its answer is stored, under a key of tenant and stage."""
    assert [paint(), paint(), paint("other")] == [(1, False), (1, True), (2, False)]
    names = list(valkey.scan_iter(f"skald:local:{tenant}:idempotency:chart#*"))
    assert len(names) == 2
    assert all(0 < valkey.ttl(name) <= 24 * 3600 for name in names)


def test_tenants_are_apart(paint: Painter, valkey: redis.Redis, other_tenant: UUID) -> None:
    """C-08, Q-10: the answer of another tenant is not returned."""
    assert [paint(), Painter(valkey, other_tenant)()] == [(1, False), (1, False)]


def test_duplicate_in_flight_is_refused(paint: Painter) -> None:
    """C-08: while one call works, another call gets an error with `Retry-After`."""

    def ask_again() -> None:
        with pytest.raises(InUse):
            paint()

    assert paint(meanwhile=ask_again) == (1, False)
    assert paint() == (1, True)


def test_failure_frees_the_key(paint: Painter) -> None:
    """C-08: a failed call stores no answer."""

    def fail() -> None:
        raise Broken

    with pytest.raises(Broken):
        paint(meanwhile=fail)
    assert paint() == (2, False)


def test_overrun_lease_frees_the_key(paint: Painter) -> None:
    """C-08: work that hangs holds its key until the lease ends."""

    def is_free() -> bool:
        try:
            return paint() == (2, False)
        except InUse:
            return False

    paint(
        lease=timedelta(milliseconds=50), meanwhile=lambda: wait_until(is_free, "the lease to end")
    )
    assert paint.drawn == 2


def test_work_runs_without_redis(no_valkey: str, tenant: UUID) -> None:
    """C-08: without Redis each call works, and none fails."""
    client = connect(no_valkey)
    paint = Painter(client, tenant)
    assert [paint(), paint()] == [(1, False), (2, False)]
    client.close()


def test_redis_may_vanish_at_work(own_valkey: MortalValkey, tenant: UUID) -> None:
    """C-08: if the answer cannot be stored, the caller still gets it."""
    client = connect(own_valkey.dsn)
    paint = Painter(client, tenant)
    assert paint() == (1, False)
    assert paint("other", meanwhile=own_valkey.stop) == (2, False)
    assert paint() == (3, False)
    client.close()
