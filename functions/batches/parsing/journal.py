"""Keeps the event table, the timeline and the features of one parse in step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batches.features import FeatureCounter, Features, Severity
from batches.parsing.interface import Sink
from batches.parsing.timeline import Timeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EVENT_COLUMNS = ("line", "timestamp", "level", "code", "message")
STORED_MESSAGE_LIMIT = 4096
"""Characters of a message that reach events.csv."""
_WALL_CLOCK_SINCE = 631_152_000.0
"""1990: a time stamp beyond it counts from 1970, one below from the start of something."""


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
        self.timeline = Timeline(start)
        self.table = sink.table("events", columns)
        self._sink = sink

    def event(
        self, line: int, timestamp: float | None, severity: Severity, code: str, message: str
    ) -> None:
        """Record something the file says: it counts as an event."""
        self.counter.uneventful(1)
        self.finding(line, timestamp, severity, code, message)

    def finding(
        self, line: int, timestamp: float | None, severity: Severity, code: str, message: str
    ) -> None:
        """Record something the parser noticed about events that are counted already."""
        self.table.write(
            (line, timestamp, severity, code, message[:STORED_MESSAGE_LIMIT].replace("\0", "�"))
        )
        self.counter.finding(line, timestamp, severity, code, message)
        self.timeline.add(timestamp, severity)

    def uneventful(self, timestamps: "NDArray[np.float64]") -> None:
        """Count frames or data rows that carry no severity of their own."""
        if len(timestamps):
            start, end = float(timestamps.min()), float(timestamps.max())
            self.counter.uneventful(len(timestamps), start, end)
            self.timeline.add_many(timestamps, "info")

    def finish(
        self, *, wall_clock: bool | None = None, **details: int | float | str | list[str]
    ) -> Features:
        """Write the timeline and return the features.

        Whether the times count from 1970 is told from their size unless `wall_clock` says so.
        """
        self.timeline.write(self._sink)
        self.table.close()
        features = self.counter.finish(**details)
        start = features.time_start
        by_size = start is not None and start > _WALL_CLOCK_SINCE
        features.wall_clock = by_size if wall_clock is None else wall_clock
        return features
