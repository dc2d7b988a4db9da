"""V-03: the life cycle of any entity."""

from enum import StrEnum
from itertools import pairwise, product

import pytest

from skald.life import LifeCycle


class Door(StrEnum):
    """The failure is in the middle: only the order of the other states matters."""

    OPEN = "open"
    BROKEN = "broken"
    CLOSED = "closed"
    LOCKED = "locked"


LIFE = LifeCycle(Door, failed=Door.BROKEN)
ORDER = [Door.OPEN, Door.CLOSED, Door.LOCKED]


@pytest.mark.parametrize(("state", "target"), list(product(Door, Door)))
def test_a_state_becomes_the_next_or_fails(state: Door, target: Door) -> None:
    """V-03: no state is skipped or repeated, and a final state does not change."""
    fails = target is Door.BROKEN and state in (Door.OPEN, Door.CLOSED)
    assert LIFE.may_become(state, target) is (fails or (state, target) in set(pairwise(ORDER)))


def test_the_last_state_and_the_failure_are_final() -> None:
    """V-03: and no others."""
    assert [state for state in Door if LIFE.is_final(state)] == [Door.BROKEN, Door.LOCKED]


def test_nothing_comes_before_the_first() -> None:
    """V-03: an entity is created in its first state."""
    assert LIFE.before(Door.OPEN) == []
