"""Draws the charts of a batch as PNG images (V-07)."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from math import isfinite
from pathlib import PurePosixPath

from batches.analysis.panels import (
    FileTimeline,
    SignalLines,
    draw_events,
    draw_severity,
    draw_signals,
    draw_top_codes,
)
from batches.analysis.statistics import BatchStatistics, FileRow, ParsedFile

TIMELINES_DRAWN = 8
SIGNAL_CHARTS = 4
SIGNALS_DRAWN = 6
FILES_TRIED = 60
"""Most tables fetched per kind, so that a huge batch stays cheap."""

type Tables = Callable[[str, str], str | None]
"""(file id, table name without `.csv`) -> CSV text, or None if the parser wrote no such table."""


def draw_charts(
    files: Sequence[ParsedFile], statistics: BatchStatistics, tables: Tables
) -> dict[str, bytes]:
    """Return PNGs by chart name; a chart without data is left out."""
    present = {file.file_id for file in files}
    rows = [row for row in statistics.files if row.file_id in present]
    drawn = {
        "severity_over_time": draw_severity(_timelines(rows, tables)),
        "top_error_codes": draw_top_codes(statistics.top_error_codes),
        "events_per_file": draw_events(rows),
    }
    charts = {name: image for name, image in drawn.items() if image is not None}
    return charts | _signal_charts(rows, tables)


def _timelines(rows: Sequence[FileRow], tables: Tables) -> list[FileTimeline]:
    timelines: list[FileTimeline] = []
    for row in _with_tables(rows):
        numbers = list(_numbers(tables(row.file_id, "timeline"), FileTimeline.COLUMNS))
        if any(sum(counts) for _, *counts in numbers):
            timelines.append(FileTimeline(row.name, numbers))
        if len(timelines) == TIMELINES_DRAWN:
            break
    return timelines


def _signal_charts(rows: Sequence[FileRow], tables: Tables) -> dict[str, bytes]:
    charts: dict[str, bytes] = {}
    for row in _with_tables(rows):
        if row.format is None or row.format.startswith("text"):
            continue
        lines = _signals(tables(row.file_id, "movers"))
        image = draw_signals(row.name, lines) if lines else None
        if image is not None:
            charts[_free_name(f"signals_{_stem(row.name)}", charts)] = image
        if len(charts) == SIGNAL_CHARTS:
            break
    return charts


def _with_tables(rows: Sequence[FileRow]) -> Sequence[FileRow]:
    return [row for row in rows if row.status == "completed"][:FILES_TRIED]


def _signals(text: str | None) -> SignalLines:
    lines: SignalLines = {}
    for record in _records(text):
        point = _floats(record, ("offset_s", "value"))
        signal = record.get("signal")
        if point and signal and (signal in lines or len(lines) < SIGNALS_DRAWN):
            lines.setdefault(signal, []).append((point[0], point[1]))
    return lines


def _numbers(text: str | None, columns: Sequence[str]) -> Iterator[tuple[float, ...]]:
    for record in _records(text):
        if values := _floats(record, columns):
            yield values


def _records(text: str | None) -> Iterator[dict[str, str | None]]:
    return iter(csv.DictReader(StringIO(text or "")))


def _floats(record: dict[str, str | None], columns: Sequence[str]) -> tuple[float, ...] | None:
    """Return the numbers of one row, or None if one is missing or not finite."""
    try:
        values = tuple(float(record.get(column) or "nan") for column in columns)
    except ValueError:
        return None
    return values if all(map(isfinite, values)) else None


def _stem(name: str) -> str:
    """Return the stem of a file name with only characters that are safe in an S3 key."""
    stem = PurePosixPath(name).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._")[:60] or "file"


def _free_name(wanted: str, taken: dict[str, bytes]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
