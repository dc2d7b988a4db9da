"""Runs both sides of a benchmark in alternating rounds, and compares their medians."""

import gc
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from benchmarks.servers import Servers


class Unit(StrEnum):
    """The unit of a figure: operations per second, the time of one operation, or a size."""

    PER_SECOND = "per second"
    MILLISECONDS = "ms"
    BYTES = "bytes"

    @property
    def less_is_better(self) -> bool:
        return self is not Unit.PER_SECOND


class Benchmark(ABC):
    """One row of the table: ours and a peer do the same work and reach the same end state.

    The constructor prepares both sides, and registers in `resources` what must be closed. Each
    side runs one round and returns its figure in `unit`, without the time for preparation.
    """

    name: ClassVar[str]
    unit: ClassVar[Unit] = Unit.PER_SECOND
    target: ClassVar[float]
    compares: ClassVar[str]
    limited_by: ClassVar[str]

    @abstractmethod
    def __init__(self, servers: Servers, resources: ExitStack) -> None: ...

    @abstractmethod
    def ours(self) -> float: ...

    @abstractmethod
    def peer(self) -> float: ...


@dataclass(frozen=True)
class Result:
    """The medians of a benchmark; `ratio` is above 1 if ours is better."""

    name: str
    ours: float
    peer: float
    unit: Unit
    target: float

    @property
    def ratio(self) -> float:
        faster = self.ours / self.peer
        return 1 / faster if self.unit.less_is_better else faster

    @property
    def reached(self) -> bool:
        return self.ratio >= self.target

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ours": round(self.ours, 2),
            "peer": round(self.peer, 2),
            "unit": self.unit.value,
            "ratio": round(self.ratio, 3),
            "target": self.target,
        }


def measure(
    benchmark: Benchmark, rounds: int, progress: Callable[[str], None] = lambda _: None
) -> Result:
    """Run one warm-up round, then `rounds` measured rounds; a round runs each side once.

    The order of the sides changes after each round. So a machine that becomes slower or faster
    during the run does not favour a side.
    """
    figures: dict[str, list[float]] = {"ours": [], "peer": []}
    _round(benchmark, ("ours", "peer"))
    order = ("peer", "ours")
    for number in range(1, rounds + 1):
        progress(f"{benchmark.name}: round {number} of {rounds}")
        for side, figure in _round(benchmark, order).items():
            figures[side].append(figure)
        order = (order[1], order[0])
    return Result(
        name=benchmark.name,
        ours=statistics.median(figures["ours"]),
        peer=statistics.median(figures["peer"]),
        unit=benchmark.unit,
        target=benchmark.target,
    )


def report(results: Iterable[Result]) -> dict[str, Any]:
    """Return the results as one JSON object."""
    return {"results": [result.document() for result in results]}


def per_second(operations: int, work: Callable[[], object]) -> float:
    """Do the work once, and return its operations per second."""
    begun = time.perf_counter()
    work()
    return operations / (time.perf_counter() - begun)


def _round(benchmark: Benchmark, order: tuple[str, str]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for side in order:
        gc.collect()  # a side must not pay for the garbage of the other
        figures[side] = benchmark.ours() if side == "ours" else benchmark.peer()
    return figures
