"""Builds parsed files and their tables in tests, as a parse job leaves them."""

from collections.abc import Callable, Mapping
from math import sin

from batches.analysis.statistics import ParsedFile
from batches.features import CriticalEvent, Features


def parsed(
    name: str,
    codes: Mapping[str, int] | None = None,
    *,
    critical: Mapping[str, str] | None = None,
    events: int = 1000,
    warnings: int = 0,
    format_name: str = "text",
) -> ParsedFile:
    """A completed file: codes with counts, and critical messages by code."""
    quotes = [
        CriticalEvent(line=10 * (i + 1), timestamp=1.0 * i, code=code, message=message)
        for i, (code, message) in enumerate((critical or {}).items())
    ]
    ranked = dict(sorted((codes or {}).items(), key=lambda item: -item[1]))
    features = Features(
        format=format_name,
        total_events=events,
        error_count=sum(ranked.values()),
        warning_count=warnings,
        top_error_codes=ranked,
        critical_events=quotes,
        time_start=1_763_085_600.0,
        time_end=1_763_091_000.0,
        wall_clock=True,
    )
    return ParsedFile(
        file_id=f"id-{name}", name=name, status="completed", size_bytes=1234, features=features
    )


def failed(name: str, reason: str = "the file is empty") -> ParsedFile:
    """A file that no parser accepted."""
    return ParsedFile(file_id=f"id-{name}", name=name, status="failed", reason=reason)


def timeline_csv(buckets: int = 60, step: float = 90.0) -> str:
    """A timeline with one period of errors in its middle."""
    rows = ["offset_s,critical,error,warning,info"]
    for i in range(buckets):
        spell = buckets // 2 <= i < buckets // 2 + 5
        rows.append(f"{i * step},{int(spell)},{4 * spell},{i % 3},{50}")
    return "\n".join(rows) + "\n"


def movers_csv(signals: tuple[str, ...] = ("BatteryVoltage", "SteeringAngle")) -> str:
    """Signals with large changes."""
    rows = ["signal,offset_s,value"]
    rows += [f"{s},{i * 0.5},{sin(i / 20 + len(s)):.4f}" for s in signals for i in range(400)]
    return "\n".join(rows) + "\n"


def no_tables(file_id: str, table: str) -> str | None:
    return None


def tables_of(**tables: str) -> Callable[[str, str], str | None]:
    """The tables that every file has."""
    return lambda _, table: tables.get(table)
