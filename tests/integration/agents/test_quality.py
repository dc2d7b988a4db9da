"""V-08: the agents with the offline model judge no worse than the rules alone."""

import pytest

from fleet.quality import JUDGES, Kind, judge_fleet, together
from skald.knowledge.entries import Loaded
from skald.postgres import Database

FLEETS = 4


@pytest.mark.parametrize("kind", ["demo", "known"])
def test_agents_are_no_worse_than_the_rules(
    database: Database, library: Loaded, kind: Kind
) -> None:
    """V-08, V-09: with the library, on fleets whose faults are known."""
    scores = [judge_fleet(kind, seed, [*JUDGES.values()]) for seed in range(FLEETS)]
    rules, agents = (together(of_judge).total for of_judge in zip(*scores, strict=True))
    assert rules.right > FLEETS
    assert agents.right >= rules.right
    assert agents.invented <= rules.invented
