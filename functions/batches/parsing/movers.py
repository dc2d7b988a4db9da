"""Selects the signals of a recording that are worth a chart, and downsamples them.

Each signal is kept as at most 200 spans of time, with its minimum, maximum and mean in each span.
The spans double in width when the recording exceeds them. So a signal takes the same few
kilobytes for any length. The score of a signal is the product of three factors, each 0 to 1:

- reach: the distance from the 10th to the 90th percentile of the span means, as a share of the
  signal's whole range.
- smoothness: 1 - half the von Neumann ratio. That ratio is the mean squared step over the
  variance; it is 2 for noise and near 0 for a smooth movement.
- liveliness: the share of spans in which the signal moves by more than a thousandth of its range.

So a ramp or a manoeuvre scores high; noise, checksums, single spikes and single steps score low.
Constants, counters, clocks and internal values of estimators score 0. Such a signal never falls,
almost always steps by the same amount, or has a typical name. At most two signals come from one
topic or message.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from batches.parsing.interface import Sink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Floats = NDArray[np.float64]

MOVERS = 6
SPANS = 200
_PER_GROUP = 2
_FINEST_WIDTH = 0.001
_FEWEST_SPANS = 8
_COUNTER_SHARE = 0.9
_STIR = 0.001
_DULL_NAME = re.compile(r"timestamp|time$|count|sequence|_seq$|cnt|checksum|crc|covariance|reset")


class Tracks:
    """The signals of one topic or message, which are sampled together."""

    def __init__(self, group: str, names: Sequence[str], start: float) -> None:
        import numpy as np

        self.group = group
        self.names = names
        self.start = start
        self._width = _FINEST_WIDTH
        shape = (SPANS, len(names))
        self._low = np.full(shape, np.inf)
        self._high = np.full(shape, -np.inf)
        self._sum = np.zeros(shape)
        self._count = np.zeros(shape)
        self._last: Floats | None = None
        self._step: Floats | None = None
        self._steps = np.zeros((3, len(names)))  # taken, downward, the same as the first

    def add(self, timestamps: "Floats", values: "Floats") -> None:
        """Add samples: times in seconds, shape (n,), and values, shape (n, signals).

        A value that is not finite counts as missing.
        """
        import numpy as np

        offsets = np.maximum(timestamps - self.start, 0.0)
        while offsets.max() / self._width >= SPANS:
            self._halve()
        spans = (offsets / self._width).astype(np.int64)
        if np.any(spans[1:] < spans[:-1]):
            order = np.argsort(spans, kind="stable")
            spans, values = spans[order], values[order]
        edges = np.flatnonzero(np.diff(spans, prepend=-1))
        at = spans[edges]
        present = np.isfinite(values)
        reduce = np.minimum.reduceat(np.where(present, values, np.inf), edges)
        self._low[at] = np.minimum(self._low[at], reduce)
        reduce = np.maximum.reduceat(np.where(present, values, -np.inf), edges)
        self._high[at] = np.maximum(self._high[at], reduce)
        with np.errstate(over="ignore", invalid="ignore"):
            self._sum[at] += np.add.reduceat(np.where(present, values, 0.0), edges)
        self._count[at] += np.add.reduceat(present, edges, dtype=np.float64)
        self._watch_steps(values)

    def _watch_steps(self, values: "Floats") -> None:
        import numpy as np

        if self._last is not None:
            values = np.vstack((self._last, values))
        self._last = values[-1:]
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.diff(values, axis=0)
            if not len(steps):
                return
            if self._step is None:
                self._step = steps[0]
            self._steps[0] += np.count_nonzero(steps, axis=0)
            self._steps[1] += np.count_nonzero(steps < 0, axis=0)
            self._steps[2] += np.count_nonzero((steps == self._step) & (steps != 0), axis=0)

    def _halve(self) -> None:
        import numpy as np

        self._width *= 2
        half = (SPANS // 2, 2, len(self.names))
        rest = (SPANS // 2, len(self.names))
        self._low = np.vstack((self._low.reshape(half).min(axis=1), np.full(rest, np.inf)))
        self._high = np.vstack((self._high.reshape(half).max(axis=1), np.full(rest, -np.inf)))
        self._sum = np.vstack((self._sum.reshape(half).sum(axis=1), np.zeros(rest)))
        self._count = np.vstack((self._count.reshape(half).sum(axis=1), np.zeros(rest)))

    def _is_counter(self, index: int) -> bool:
        taken, downward, same = self._steps[:, index]
        named = _DULL_NAME.search(self.names[index].lower()) is not None
        return bool(named or downward == 0 or same > _COUNTER_SHARE * taken)

    def score(self, index: int) -> float:
        """Return how much this signal moved, from 0 (constant, noise, counter) to 1."""
        import numpy as np

        seen = self._count[:, index] > 0
        if np.count_nonzero(seen) < _FEWEST_SPANS or self._is_counter(index):
            return 0.0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            means = self._sum[seen, index] / self._count[seen, index]
            reach = self._high[seen, index].max() - self._low[seen, index].min()
            variance = means.var()
            if not (np.isfinite(variance) and np.isfinite(reach) and variance > 0 and reach > 0):
                return 0.0
            steps = np.diff(means)
            smooth = 1.0 - np.mean(steps**2) / variance / 2.0
            lively = np.mean(np.abs(steps) > _STIR * reach)
            low, high = np.percentile(means, (10, 90))
            return float(max(smooth, 0.0) * lively * (high - low) / reach)

    def points(self, index: int) -> Iterable[tuple[float, float]]:
        """Yield (seconds since the start, value): the minimum and the maximum of each span."""
        before = -float("inf")
        for span in range(SPANS):
            if not self._count[span, index]:
                continue
            offset = span * self._width
            low, high = float(self._low[span, index]), float(self._high[span, index])
            mean = float(self._sum[span, index] / self._count[span, index])
            yield offset, low if mean >= before else high
            if low != high:
                yield offset + self._width / 2, high if mean >= before else low
            before = mean


def write_movers(sink: Sink, tracks: Iterable[Tracks]) -> list[str]:
    """Write `movers.csv` (signal, offset_s, value), and return the names of its signals."""
    scored = [
        (group.score(index), group, index) for group in tracks for index in range(len(group.names))
    ]
    scored.sort(key=lambda entry: entry[0], reverse=True)
    table = sink.table("movers", ("signal", "offset_s", "value"))
    chosen: list[str] = []
    taken: Counter[str] = Counter()
    for score, group, index in scored:
        if len(chosen) == MOVERS or score <= 0.0:
            break
        if taken[group.group] == _PER_GROUP:
            continue
        taken[group.group] += 1
        name = f"{group.group}.{group.names[index]}"
        chosen.append(name)
        table.write_all((name, round(at, 6), value) for at, value in group.points(index))
    table.close()
    return chosen
