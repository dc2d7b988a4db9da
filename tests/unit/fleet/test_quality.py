"""V-08: the diagnosis of fleets with foreign words, noise, few lines and wrong clocks."""

import pytest

from fleet.quality import Kind, judge_fleet, together


@pytest.mark.parametrize(
    ("kind", "precision", "recall"), [("known", 0.9, 0.9), ("unseen", 0.7, 0.5)]
)
def test_wild_fleets_stay_above_their_floors(kind: Kind, precision: float, recall: float) -> None:
    """V-08: minimums well above what the rules reached before: precision 0.23, recall 0.51."""
    score = together(one for seed in range(12) for one in judge_fleet(kind, seed))
    assert score.total.precision is not None
    assert score.total.recall is not None
    assert score.total.precision >= precision, score.mistakes
    assert score.total.recall >= recall, score.mistakes
