"""The harness of scripts/bench: medians, alternation, which side a ratio favours, the JSON."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, repeat

import pytest

from benchmarks.harness import Benchmark, Result, Unit, measure, per_second, report
from benchmarks.servers import Servers

NOWHERE = Servers("", "", "", "", "")


class Scripted(Benchmark):
    """Returns given figures, and records which side was asked in which order."""

    name = "scripted"
    target = 2.0
    compares = "nothing"
    limited_by = "nothing"

    def __init__(self, _servers: Servers, _resources: ExitStack) -> None:
        self.calls: list[str] = []
        self._ours: Iterator[float] = chain([999.0, 30, 10, 20, 50, 40], repeat(0.0))
        self._peer: Iterator[float] = chain([0.001, 9, 11, 10, 8, 12], repeat(0.0))

    def ours(self) -> float:
        self.calls.append("ours")
        return next(self._ours)

    def peer(self) -> float:
        self.calls.append("peer")
        return next(self._peer)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted(NOWHERE, ExitStack())


def result(ours: float, peer: float, unit: Unit, target: float = 1.0) -> Result:
    return Result("row", ours=ours, peer=peer, unit=unit, target=target)


def test_medians_count_and_the_warm_up_does_not(scripted: Scripted) -> None:
    measured = measure(scripted, rounds=5)
    assert (measured.ours, measured.peer) == (30, 10)
    assert measured.ratio == 3


def test_sides_alternate_and_each_goes_first_in_turn(scripted: Scripted) -> None:
    measure(scripted, rounds=5)
    assert scripted.calls[0::2] == ["ours", "peer", "ours", "peer", "ours", "peer"]
    assert scripted.calls[1::2] == ["peer", "ours", "peer", "ours", "peer", "ours"]


def test_progress_is_printed_round_by_round(scripted: Scripted) -> None:
    told: list[str] = []
    measure(scripted, rounds=5, progress=told.append)
    assert told[0] == "scripted: round 1 of 5"
    assert len(told) == 5


@pytest.mark.parametrize(
    ("ours", "peer", "unit", "ratio"),
    [(200, 100, Unit.PER_SECOND, 2.0), (200, 100, Unit.MILLISECONDS, 0.5)],
)
def test_a_ratio_above_one_means_ours_is_better(
    ours: float, peer: float, unit: Unit, ratio: float
) -> None:
    assert result(ours, peer, unit).ratio == ratio


@pytest.mark.parametrize(("ours", "reached"), [(79, False), (80, True)])
def test_a_target_is_reached_when_it_is_met(ours: float, reached: bool) -> None:
    assert result(ours, 100, Unit.PER_SECOND, target=0.8).reached is reached


def test_json_has_the_agreed_members() -> None:
    assert report([result(200, 100, Unit.MILLISECONDS)]) == {
        "results": [
            {
                "name": "row",
                "ours": 200,
                "peer": 100,
                "unit": "ms",
                "ratio": 0.5,
                "target": 1.0,
            }
        ]
    }


def test_throughput_is_operations_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    instants = iter([10.0, 12.0])
    monkeypatch.setattr("benchmarks.harness.time.perf_counter", lambda: next(instants))
    assert per_second(100, lambda: None) == 50
