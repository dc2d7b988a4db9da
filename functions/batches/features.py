"""What a parser learns from one log: the few hundred words every later step works with."""

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MESSAGE_LIMIT = 100
"""Characters of a log message that may travel further than its CSV (V-04)."""
CRITICAL_EVENTS_KEPT = 50
ERROR_CODES_KEPT = 50
CODES_COUNTED = 10_000
"""Distinct error codes counted per file; what comes after them is counted as `OTHER`."""

Severity = Literal["critical", "error", "warning", "info", "debug"]


class CriticalEvent(BaseModel):
    """One event worth quoting: where it stands, what it is called, what it says."""

    model_config = ConfigDict(frozen=True)

    line: int
    """1-based line, frame or record number in the source file."""
    timestamp: float | None
    """Seconds on the file's own clock; epoch seconds where the file has wall-clock time."""
    code: str
    message: str = Field(max_length=MESSAGE_LIMIT)


class Features(BaseModel):
    """The summary of one parsed file: counts, codes and quotes, never raw logs (V-04)."""

    format: str
    total_events: int = 0
    error_count: int = 0
    warning_count: int = 0
    top_error_codes: dict[str, int] = Field(default_factory=dict)
    """Code -> occurrences, most frequent first, at most `ERROR_CODES_KEPT`."""
    critical_events: list[CriticalEvent] = Field(default_factory=list)
    """The first `CRITICAL_EVENTS_KEPT`, in file order."""
    time_start: float | None = None
    time_end: float | None = None
    wall_clock: bool = False
    """Whether the times are seconds since 1970 rather than since the recording began."""
    details: dict[str, int | float | str | list[str]] = Field(default_factory=dict)
    """What only this format has: topics, dropouts, identifiers, templates."""


class FeatureCounter:
    """Builds `Features` while a file streams by, in constant memory."""

    def __init__(self, format_name: str, *, wall_clock: bool = False) -> None:
        self._features = Features(format=format_name, wall_clock=wall_clock)
        self._codes: Counter[str] = Counter()

    def uneventful(self, events: int, start: float | None = None, end: float | None = None) -> None:
        """Count many events at once that are neither errors nor warnings."""
        self._features.total_events += events
        for timestamp in (start, end):
            if timestamp is not None:
                self._widen(timestamp)

    def event(
        self,
        line: int,
        timestamp: float | None,
        severity: Severity,
        code: str,
        message: str,
    ) -> None:
        """Count one event; errors count by code, critical ones are kept for quoting."""
        self._features.total_events += 1
        self.finding(line, timestamp, severity, code, message)

    def finding(
        self,
        line: int,
        timestamp: float | None,
        severity: Severity,
        code: str,
        message: str,
    ) -> None:
        """Count what a parser noticed about events that are already in the total."""
        features = self._features
        if timestamp is not None:
            self._widen(timestamp)
        if severity == "warning":
            features.warning_count += 1
        elif severity in ("error", "critical"):
            features.error_count += 1
            known = code in self._codes or len(self._codes) < CODES_COUNTED
            self._codes[code if known else "OTHER"] += 1
            if severity == "critical" and len(features.critical_events) < CRITICAL_EVENTS_KEPT:
                quote = CriticalEvent(
                    line=line, timestamp=timestamp, code=code, message=message[:MESSAGE_LIMIT]
                )
                features.critical_events.append(quote)

    def _widen(self, timestamp: float) -> None:
        features = self._features
        if features.time_start is None or timestamp < features.time_start:
            features.time_start = timestamp
        if features.time_end is None or timestamp > features.time_end:
            features.time_end = timestamp

    def finish(self, **details: int | float | str | list[str]) -> Features:
        """Return the features with the codes ranked and the format's own details."""
        self._features.top_error_codes = dict(self._codes.most_common(ERROR_CODES_KEPT))
        self._features.details = details
        return self._features
