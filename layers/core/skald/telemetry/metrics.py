"""Metrics in the embedded format of CloudWatch: a log line, and no call during a request."""

import json
import time
from typing import Protocol

NAMESPACE = "Skald"

_line = json.JSONEncoder(separators=(",", ":")).encode


class Metrics(Protocol):
    """Counts and durations, named `<noun>_<unit>`, with the given dimensions."""

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        """Add to a count."""

    def seconds(self, name: str, value: float, **dimensions: str) -> None:
        """Record a duration."""


class EmbeddedMetrics:
    """Metrics as lines of the log, which CloudWatch reads."""

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        self._put(name, "Count", value, dimensions)

    def seconds(self, name: str, value: float, **dimensions: str) -> None:
        self._put(name, "Seconds", value, dimensions)

    @staticmethod
    def _put(name: str, unit: str, value: float, dimensions: dict[str, str]) -> None:
        # Powertools writes the same line and takes three times as long for a span.
        named = dimensions or {"service": "skald"}
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [list(named)],
            "Metrics": [{"Name": name, "Unit": unit}],
        }
        about = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}
        print(_line({"_aws": about, **named, name: [value]}))


metrics: Metrics = EmbeddedMetrics()
