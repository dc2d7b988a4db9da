"""C-08: Powertools' own layer on Redis, where only speed may be lost."""

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
    """What a test raises in the middle of the work."""


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
    """C-08: the work is spared while its answer is remembered, under a key of tenant and stage."""
    assert [paint(), paint(), paint("other")] == [(1, False), (1, True), (2, False)]
    names = list(valkey.scan_iter(f"skald:local:{tenant}:idempotency:chart#*"))
    assert len(names) == 2
    assert all(0 < valkey.ttl(name) <= 24 * 3600 for name in names)


def test_tenants_are_apart(paint: Painter, valkey: redis.Redis, other_tenant: UUID) -> None:
    """C-08, Q-10: another tenant's answer is not given."""
    assert [paint(), Painter(valkey, other_tenant)()] == [(1, False), (1, False)]


def test_duplicate_in_flight_is_refused(paint: Painter) -> None:
    """C-08: one works, another that comes meanwhile is told to come back."""

    def ask_again() -> None:
        with pytest.raises(InUse):
            paint()

    assert paint(meanwhile=ask_again) == (1, False)
    assert paint() == (1, True)


def test_failure_frees_the_key(paint: Painter) -> None:
    """C-08: a failed work is not remembered."""

    def fail() -> None:
        raise Broken

    with pytest.raises(Broken):
        paint(meanwhile=fail)
    assert paint() == (2, False)


def test_overrun_lease_frees_the_key(paint: Painter) -> None:
    """C-08: work that hangs holds its key for the lease, not for ever."""

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
    """C-08: without Redis nothing is spared and nothing fails."""
    client = connect(no_valkey)
    paint = Painter(client, tenant)
    assert [paint(), paint()] == [(1, False), (2, False)]
    client.close()


def test_redis_may_vanish_at_work(own_valkey: MortalValkey, tenant: UUID) -> None:
    """C-08: an answer that cannot be stored is an answer all the same."""
    client = connect(own_valkey.dsn)
    paint = Painter(client, tenant)
    assert paint() == (1, False)
    assert paint("other", meanwhile=own_valkey.stop) == (2, False)
    assert paint() == (3, False)
    client.close()
