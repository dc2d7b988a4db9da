"""Writes each event of a parse to the event table, the timeline and the features."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batches.features import FeatureCounter, Features, Severity
from batches.parsing.interface import Sink
from batches.parsing.timeline import EventHistogram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EVENT_COLUMNS = ("line", "timestamp", "level", "code", "message")
STORED_MESSAGE_LIMIT = 4096
"""Most characters of a message in events.csv."""
_WALL_CLOCK_SINCE = 631_152_000.0
"""1990, in epoch seconds; smaller time stamps count from the start of a recording."""


class Journal:
    """Writes `events.csv` and `timeline.csv` and counts the features."""

    def __init__(
        self,
        sink: Sink,
        format_name: str,
        *,
        start: float | None = None,
        columns: Sequence[str] = EVENT_COLUMNS,
    ) -> None:
        self.counter = FeatureCounter(format_name)
        self.timeline = EventHistogram(start)
        self.table = sink.table("events", columns)
        self._sink = sink

    def event(
        self, line: int, timestamp: float | None, severity: Severity, code: str, message: str
    ) -> None:
        """Record an entry of the file; it counts as an event."""
        self.counter.uneventful(1)
        self.finding(line, timestamp, severity, code, message)

    def finding(
        self, line: int, timestamp: float | None, severity: Severity, code: str, message: str
    ) -> None:
        """Record what the parser found about events that are already counted."""
        self.table.write(
            (line, timestamp, severity, code, message[:STORED_MESSAGE_LIMIT].replace("\0", "�"))
        )
        self.counter.finding(line, timestamp, severity, code, message)
        self.timeline.add(timestamp, severity)

    def uneventful(self, timestamps: "NDArray[np.float64]") -> None:
        """Count frames or data rows without severity, by their times in seconds, shape (n,)."""
        if len(timestamps):
            start, end = float(timestamps.min()), float(timestamps.max())
            self.counter.uneventful(len(timestamps), start, end)
            self.timeline.add_many(timestamps, "info")

    def finish(
        self, *, wall_clock: bool | None = None, **details: int | float | str | list[str]
    ) -> Features:
        """Write the timeline and return the features.

        `wall_clock` says whether the times count from 1970; without it, their size decides.
        """
        self.timeline.write(self._sink)
        self.table.close()
        features = self.counter.finish(**details)
        start = features.time_start
        by_size = start is not None and start > _WALL_CLOCK_SINCE
        features.wall_clock = by_size if wall_clock is None else wall_clock
        return features
