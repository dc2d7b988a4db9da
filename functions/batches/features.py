"""The features of one log: a short summary, which all later steps use instead of the log (V-04)."""

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MESSAGE_LIMIT = 100
"""Most characters of a log message outside its CSV (V-04)."""
CRITICAL_EVENTS_KEPT = 50
FIRST_ERRORS_KEPT = 20
ERROR_CODES_KEPT = 50
CODES_COUNTED = 10_000
"""Most distinct error codes counted per file; further codes count as `OTHER`."""

Severity = Literal["critical", "error", "warning", "info", "debug"]


class CriticalEvent(BaseModel, defer_build=True):
    """An event of a log that matters for the diagnosis."""

    model_config = ConfigDict(frozen=True)

    line: int = Field(description="The line, frame or record in the file, from 1.")
    timestamp: float | None = Field(
        description="Seconds on the file's own clock; epoch seconds where the file has "
        "wall-clock time."
    )
    code: str = Field(description="The error code.")
    message: str = Field(max_length=MESSAGE_LIMIT, description="The message.")


class Features(BaseModel, defer_build=True):
    """The summary of one parsed file: counts, codes and quotes, never raw logs (V-04)."""

    format: str
    total_events: int = 0
    error_count: int = 0
    warning_count: int = 0
    top_error_codes: dict[str, int] = Field(default_factory=dict)
    """Code -> occurrences, most frequent first, at most `ERROR_CODES_KEPT`."""
    critical_events: list[CriticalEvent] = Field(default_factory=list)
    """The first `CRITICAL_EVENTS_KEPT` critical events, in file order."""
    first_errors: list[CriticalEvent] = Field(default_factory=list)
    """The first event of each frequent code, unless it is critical; at most `FIRST_ERRORS_KEPT`."""
    time_start: float | None = None
    time_end: float | None = None
    wall_clock: bool = False
    """Whether the times are seconds since 1970, and not since the recording began."""
    details: dict[str, int | float | str | list[str]] = Field(default_factory=dict)
    """Values that only this format has, for example topics, dropouts, identifiers, templates."""


class FeatureCounter:
    """Builds `Features` from the events of a file, in constant memory."""

    def __init__(self, format_name: str, *, wall_clock: bool = False) -> None:
        self._format = format_name
        self._wall_clock = wall_clock
        self._events = 0
        self._errors = 0
        self._warnings = 0
        self._codes: Counter[str] = Counter()
        self._critical: list[CriticalEvent] = []
        self._firsts: dict[str, CriticalEvent] = {}
        self._start: float | None = None
        self._end: float | None = None

    def event(
        self, line: int, timestamp: float | None, severity: Severity, code: str, message: str
    ) -> None:
        """Count one event; errors count per code, and critical events are kept as quotes."""
        self._events += 1
        self.finding(line, timestamp, severity, code, message)

    def finding(
        self, line: int, timestamp: float | None, severity: Severity, code: str, message: str
    ) -> None:
        """Count what a parser found about events that are already in the total."""
        if timestamp is not None:
            self._widen(timestamp, timestamp)
        if severity == "warning":
            self._warnings += 1
        elif severity in ("error", "critical"):
            self._errors += 1
            if code not in self._codes and len(self._codes) >= CODES_COUNTED:
                self._codes["OTHER"] += 1
            else:
                self._codes[code] += 1
            if severity == "critical" and len(self._critical) < CRITICAL_EVENTS_KEPT:
                self._critical.append(_quote(line, timestamp, code, message))
            elif self._codes[code] == 1:
                self._firsts[code] = _quote(line, timestamp, code, message)

    def uneventful(self, events: int, start: float | None = None, end: float | None = None) -> None:
        """Count many events without severity, between two times in seconds."""
        self._events += events
        if start is not None and end is not None:
            self._widen(start, end)

    def _widen(self, start: float, end: float) -> None:
        if self._start is None or start < self._start:
            self._start = start
        if self._end is None or end > self._end:
            self._end = end

    def finish(self, **details: int | float | str | list[str]) -> Features:
        """Return the features, with ranked codes and the details of the format."""
        ranked = self._codes.most_common(ERROR_CODES_KEPT)
        firsts = [self._firsts[code] for code, _ in ranked if code in self._firsts]
        return Features(
            format=self._format,
            total_events=self._events,
            error_count=self._errors,
            warning_count=self._warnings,
            top_error_codes=dict(ranked),
            critical_events=self._critical,
            first_errors=firsts[:FIRST_ERRORS_KEPT],
            time_start=self._start,
            time_end=self._end,
            wall_clock=self._wall_clock,
            details=details,
        )


def _quote(line: int, timestamp: float | None, code: str, message: str) -> CriticalEvent:
    return CriticalEvent(line=line, timestamp=timestamp, code=code, message=message[:MESSAGE_LIMIT])
