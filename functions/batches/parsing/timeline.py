"""Counts events over time in constant memory, for recordings of any length."""

from typing import TYPE_CHECKING

from batches.features import Severity
from batches.parsing.interface import Sink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUCKETS = 120
_FINEST_WIDTH = 0.01
_COLUMNS = ("critical", "error", "warning", "info")
_COLUMN: dict[Severity, int] = {"critical": 0, "error": 1, "warning": 2, "info": 3, "debug": 3}


class EventHistogram:
    """Events per severity in at most `BUCKETS` equal spans of time.

    The spans are narrow at first, and double in width when the recording exceeds them. So the
    range of times need not be known before. The first time stamp is the origin. An earlier time,
    for example after a clock was set back, counts in the first span. An event without a time
    counts at the last known time.
    """

    def __init__(self, start: float | None = None) -> None:
        self._start = start
        self._last = start
        self._width = _FINEST_WIDTH
        self._counts = [[0] * BUCKETS for _ in _COLUMNS]

    def add(self, timestamp: float | None, severity: Severity, events: int = 1) -> None:
        """Count `events` at a time in seconds."""
        if timestamp is None:
            timestamp = self._last
            if timestamp is None:
                return
        if self._start is None:
            self._start = timestamp
        self._last = timestamp
        index = int((timestamp - self._start) / self._width)
        if index >= BUCKETS:
            self._stretch(timestamp - self._start)
            index = int((timestamp - self._start) / self._width)
        self._counts[_COLUMN[severity]][max(index, 0)] += events

    def add_many(self, timestamps: "NDArray[np.float64]", severity: Severity) -> None:
        """Count one event at each of these times in seconds, shape (n,)."""
        import numpy as np

        if not len(timestamps):
            return
        if self._start is None:
            self._start = float(timestamps[0])
        offsets = np.maximum(timestamps - self._start, 0.0)
        self._last = float(timestamps[-1])
        self._stretch(float(offsets.max()))
        indexes = np.minimum((offsets / self._width).astype(np.int64), BUCKETS - 1)
        column = self._counts[_COLUMN[severity]]
        for index, events in enumerate(np.bincount(indexes, minlength=BUCKETS).tolist()):
            column[index] += events

    def _stretch(self, offset: float) -> None:
        while offset / self._width >= BUCKETS:
            self._width *= 2
            for position, counts in enumerate(self._counts):
                pairs = zip(counts[::2], counts[1::2], strict=True)
                self._counts[position] = [a + b for a, b in pairs] + [0] * (BUCKETS // 2)

    def write(self, sink: Sink) -> None:
        """Write `timeline.csv`: offset_s (seconds since the origin) and the count per severity."""
        table = sink.table("timeline", ("offset_s", *_COLUMNS))
        spans = list(zip(*self._counts, strict=True))
        while spans and not any(spans[-1]):
            spans.pop()
        table.write_all((round(i * self._width, 6), *span) for i, span in enumerate(spans))
        table.close()
