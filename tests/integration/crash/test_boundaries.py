"""Q-09: a kill at any commit, send or acknowledgement loses nothing and doubles nothing.

`boundaries.json` lists every boundary, and each boundary in it has its tests. The first test prints
the current list (`pytest -s`).
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.integration.crash.conftest import Lived, World
from tests.integration.crash.pipeline import STAGES
from tests.integration.crash.scenarios import QUEUES, SCENARIOS, STEPS, TASKS
from tests.integration.crash.tracer import Death, Moment

LIST = Path(__file__).parents[1] / "boundaries.json"
BOUNDARIES: dict[str, list[str]] = json.loads(LIST.read_text())
MOMENTS: tuple[Moment, ...] = ("before", "after")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_boundary_is_in_the_list(world: World, scenario: str) -> None:
    """Q-09: a new boundary is visible in a review, and the test below kills at it."""
    world.prepare(scenario)
    lived = world.run(scenario)
    print(json.dumps({scenario: lived.boundaries}, indent=2))
    assert lived.exit_code == 0
    assert lived.boundaries == BOUNDARIES.get(scenario), (
        f"the boundaries of {scenario} have changed: put the list printed below into {LIST.name}"
    )
    _check(scenario, world, lived)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("scenario", "number"),
    [
        pytest.param(scenario, number, id=f"{scenario}-{number}-{boundary.replace(' ', '-')}")
        for scenario, boundaries in BOUNDARIES.items()
        for number, boundary in enumerate(boundaries)
    ],
)
def test_nothing_is_lost_or_doubled_by_a_kill(
    world: World, scenario: str, number: int, moment: Moment
) -> None:
    """Q-09: SIGKILL right before and right after each boundary, then a new process."""
    world.prepare(scenario)
    killed = world.run(scenario, Death(number, moment))
    assert killed.was_killed
    assert killed.boundaries == BOUNDARIES[scenario][: number + 1]
    world.end_leases()
    assert world.run(scenario).exit_code == 0
    _check(scenario, world, killed)


@pytest.mark.parametrize(("number", "messages"), [(0, 0), (2, 3)])
def test_the_lease_of_a_killed_relay_holds(world: World, number: int, messages: int) -> None:
    """Q-05: until the lease ends no other relay sends what the dead one may have sent."""
    world.prepare("relay")
    assert world.run("relay", Death(number, "after")).was_killed
    assert world.run("relay").exit_code == 0
    assert sum(len(world.aws.messages(queue)) for queue in QUEUES) == messages


# Checks of each scenario --------------------------------------------------------------------------


def _check(scenario: str, world: World, lived: Lived) -> None:
    if scenario in STAGES:
        world.check(scenario)
    else:
        NOTHING_LOST_OR_DOUBLED[scenario](world, lived)


def _ordered_once(scenario: str, world: World, killed: Lived) -> None:
    assert world.marks() == {"order.placed": 1}
    again = world.run(scenario).answer
    assert again is not None
    assert again["multiValueHeaders"]["Idempotency-Replayed"] == ["true"]
    if killed.answer is not None:
        assert again["body"] == killed.answer["body"]


def _sent(world: World, _: Lived) -> None:
    assert world.statuses() == {"published": 3}
    assert world.run("delivery").exit_code == 0
    assert world.marks()["event.taken"] == 3


def _taken_once(world: World, _: Lived) -> None:
    assert world.marks() == {"event.taken": 2}
    assert not any(world.aws.messages(queue) for queue in QUEUES)


def _judged_once(world: World, _: Lived) -> None:
    assert world.marks() == {"sentence.passed": 1}
    assert world.aws.answers() == {"token"}
    assert not world.aws.messages(TASKS)


def _completed(world: World, _: Lived) -> None:
    assert world.marks() == {f"{name}.done": 1 for name in STEPS}
    assert world.aws.objects("world") == set(STEPS)


def _compensated(world: World, _: Lived) -> None:
    done = {f"{name}.done": 1 for name in STEPS[:2]}
    assert world.marks() == done | {f"{name}.undone": 1 for name in STEPS}
    assert world.aws.objects("world") == set()


NOTHING_LOST_OR_DOUBLED: dict[str, Callable[[World, Lived], None]] = {
    "request": partial(_ordered_once, "request"),
    "rows_first": partial(_ordered_once, "rows_first"),
    "relay": _sent,
    "delivery": _taken_once,
    "queued_task": _judged_once,
    "saga": _completed,
    "compensation": _compensated,
}
