"""Statistics of CAN traffic per identifier: number of frames, period, gaps, changed bits."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from batches.parsing.interface import Cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDENTIFIER_COLUMNS = (
    "channel",
    "id",
    "extended",
    "frames",
    "period_s",
    "longest_gap_s",
    "bits_per_byte",
    "changes_per_byte",
)
_PERIODS_KEPT = 256
_PERIODS_NEEDED = 10
_SILENCE_FACTOR = 10.0
_SHORTEST_SILENCE = 1.0


class Silence(NamedTuple):
    """A gap in the frames of an identifier: the index of the frame after it, and its seconds."""

    after: int
    seconds: float


class Identifier:
    """The statistics of one identifier on one channel; each takes a few kilobytes."""

    def __init__(self) -> None:
        self.frames = 0
        self.extended = 0
        self.period: float | None = None
        self._periods: list[float] = []
        self._last_time: float | None = None
        self._longest_gap = 0.0
        self._last: NDArray[np.uint8] | None = None
        self._bits: NDArray[np.uint8] | None = None
        self._changes: NDArray[np.int64] | None = None

    def arrive(self, times: "NDArray[np.float64]") -> Iterable[Silence]:
        """Count frames by their times in seconds, shape (n,); return the silences between them."""
        import numpy as np

        first = 1
        if self._last_time is not None:
            times, first = np.concatenate(((self._last_time,), times)), 0
        self._last_time = float(times[-1])
        self.frames += len(times) - 1 + first
        gaps = np.diff(times)
        if not len(gaps):
            return []
        self._longest_gap = max(self._longest_gap, float(gaps.max()))
        if len(self._periods) < _PERIODS_KEPT:
            self._periods.extend(gaps[: _PERIODS_KEPT - len(self._periods)].tolist())
            self.period = float(np.median(self._periods))
        silent = np.flatnonzero(gaps > self._patience).tolist()
        return [Silence(index + first, float(gaps[index])) for index in silent]

    def silence_until(self, end: float) -> float | None:
        """Return the seconds of silence before the end of the log, or None if there is none."""
        gap = end - (self._last_time or end)
        return gap if gap > self._patience else None

    @property
    def _patience(self) -> float:
        if self.period is None or len(self._periods) < _PERIODS_NEEDED:
            return float("inf")
        return max(_SHORTEST_SILENCE, _SILENCE_FACTOR * self.period)

    def carry(self, payloads: "NDArray[np.uint8]") -> None:
        """Add payloads, shape (frames, bytes), to the changed bits and the changes per byte."""
        import numpy as np

        width = payloads.shape[1]
        if self._last is None or self._bits is None or self._changes is None:
            self._last = payloads[0]
            self._bits = np.zeros(width, np.uint8)
            self._changes = np.zeros(width, np.int64)
        elif width > len(self._last):
            grow = (0, width - len(self._last))
            self._last = np.pad(self._last, grow)
            self._bits = np.pad(self._bits, grow)
            self._changes = np.pad(self._changes, grow)
        else:
            payloads = np.pad(payloads, ((0, 0), (0, len(self._last) - width)))
        flips = payloads ^ np.vstack((self._last, payloads[:-1]))
        self._bits |= np.bitwise_or.reduce(flips, axis=0)
        self._changes += np.count_nonzero(flips, axis=0)
        self._last = payloads[-1]

    def row(self, channel: str, identifier: str) -> tuple[Cell, ...]:
        """Return the row for `identifiers.csv`; values per byte are separated by spaces."""
        bits = [] if self._bits is None else [bin(mask).count("1") for mask in self._bits.tolist()]
        changes = [] if self._changes is None else self._changes.tolist()
        period = None if self.period is None else round(self.period, 6)
        gap = round(self._longest_gap, 6)
        activity = (" ".join(map(str, bits)), " ".join(map(str, changes)))
        return (channel, identifier, self.extended, self.frames, period, gap, *activity)
