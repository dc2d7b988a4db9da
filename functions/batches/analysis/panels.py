"""Draws single charts: each function takes numbers and returns a PNG, or None without data."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log10
from typing import ClassVar

from batches.analysis.statistics import FileRow, RankedCode
from batches.analysis.style import (
    BAR,
    INK,
    MUTED,
    SEVERITY_COLOURS,
    SIGNAL_COLOURS,
    Axes,
    clean,
    headline,
    new_figure,
    png,
    readable,
    short,
    time_unit,
)
from batches.wording import counted

CODES_DRAWN = 10
FILES_DRAWN = 20
FAILED_DRAWN = 5
_DECADES_FOR_LOG = 2
_NOT_LOGS = ("dbc",)
_FAILED = "× failed: "

type SignalLines = dict[str, list[tuple[float, float]]]
"""Signal -> (offset in seconds, value)."""


@dataclass(frozen=True)
class FileTimeline:
    """The events of one file over its own time: (offset in seconds, critical, error, warning)."""

    COLUMNS: ClassVar = ("offset_s", "critical", "error", "warning")

    name: str
    rows: list[tuple[float, ...]]


def draw_severity(timelines: Sequence[FileTimeline]) -> bytes | None:
    """Draw one small chart per file, worst file first, each with its own time and count axis."""
    if not timelines:
        return None
    columns = 1 if len(timelines) < 3 else 2
    lines = ceil(len(timelines) / columns)
    figure = new_figure(96 + 150 * lines)
    headline(figure, "Warnings and errors over time, each file on its own clock")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, timeline in zip(grid, timelines, strict=False):
        _severity_panel(axes, timeline)
    for axes in grid[len(timelines) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=9,
        labelcolor=INK, handlelength=1.0, handleheight=1.0,
    )  # fmt: skip
    return png(figure)


def _severity_panel(axes: Axes, timeline: FileTimeline) -> None:
    from matplotlib.ticker import MaxNLocator

    offsets = [row[0] for row in timeline.rows]
    step = min((b - a for a, b in pairwise(offsets) if b > a), default=1.0)
    divisor, unit = time_unit(max(offsets) + step)
    edges = [at / divisor for at in (*offsets, max(offsets) + step)]
    base = [0.0] * len(offsets)
    for column, severity in enumerate(SEVERITY_COLOURS, start=1):
        counts = [row[column] for row in timeline.rows]
        top = [low + count for low, count in zip(base, counts, strict=True)]
        axes.stairs(
            top, edges, baseline=base, fill=True, color=SEVERITY_COLOURS[severity], label=severity
        )
        base = top
    clean(axes)
    axes.set_title(
        readable(timeline.name, 44), loc="left", fontsize=9.5, color=INK, parse_math=False
    )
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} {unit}")
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(0, max(base) * 1.08)


def draw_top_codes(codes: Sequence[RankedCode]) -> bytes | None:
    """Draw the most frequent error codes as horizontal bars."""
    shown = list(codes[:CODES_DRAWN])
    if not shown:
        return None
    figure = new_figure(96 + 30 * len(shown))
    headline(figure, "Most frequent error codes")
    totals = [code.total for code in shown]
    notes = [f"{short(code.total)}  in {counted(code.file_count, 'file')}" for code in shown]
    names = [code.code for code in shown]
    _horizontal_bars(figure.subplots(), names, totals, notes, SEVERITY_COLOURS["error"])
    return png(figure)


def draw_events(rows: Sequence[FileRow]) -> bytes | None:
    """Draw events per file; each failed file has its own bar with the reason."""
    logs = [row for row in rows if row.format not in _NOT_LOGS]
    parsed = sorted((row for row in logs if row.status == "completed"), key=lambda r: -r.events)
    failed = [row for row in rows if row.status == "failed"]
    shown = parsed[:FILES_DRAWN] + failed[:FAILED_DRAWN]
    if not shown:
        return None
    figure = new_figure(96 + 30 * len(shown))
    left_out = len(logs) - len(shown)
    headline(figure, "Events per file" + (f" ({left_out} more not drawn)" if left_out else ""))
    names = [row.name for row in shown]
    _horizontal_bars(
        figure.subplots(), names, [row.events for row in shown], list(map(_note, shown)), BAR
    )
    return png(figure)


def _note(row: FileRow) -> str:
    if row.status == "failed":
        return f"{_FAILED}{row.reason or 'no reason given'}"
    noun = "error" if row.errors == 1 else "errors"
    return short(row.events) + (f"  {short(row.errors)} {noun}" if row.errors else "")


def _horizontal_bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    notes: Sequence[str],
    colour: str,
) -> None:
    places = range(len(names))
    largest = max(max(values), 1.0)
    smallest = min((value for value in values if value > 0), default=1.0)
    logarithmic = log10(largest / smallest) >= _DECADES_FOR_LOG
    axes.barh(places, values, height=0.62, color=colour)
    clean(axes, grid="x")
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(1, (largest * 1.1) ** 1.45)
        axes.set_xlabel("logarithmic scale", fontsize=8.5, color=MUTED)
        axes.minorticks_off()
    else:
        axes.set_xlim(0, largest * 1.4)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_yticks(
        places, [readable(name, 32) for name in names],
        parse_math=False, fontsize=9, color=INK,
    )  # fmt: skip
    axes.invert_yaxis()
    for place, value, note in zip(places, values, notes, strict=True):
        start = max(value, 1.0) if logarithmic else value
        failed = note.startswith(_FAILED)
        axes.annotate(
            readable(note, 84, keep_end=False), (start, place), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8.5, parse_math=False,
            annotation_clip=False,
            color=SEVERITY_COLOURS["critical"] if failed else MUTED,
        )  # fmt: skip


def draw_signals(name: str, lines: SignalLines) -> bytes | None:
    """Draw the signals of one recording, one below the other, over one time axis."""
    lines = {signal: sorted(points) for signal, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    figure = new_figure(96 + 105 * len(lines))
    headline(figure, f"Signals that moved most: {name}")
    panels = figure.subplots(len(lines), 1, sharex=True, squeeze=False).ravel()
    divisor, unit = time_unit(max(points[-1][0] for points in lines.values()))
    for axes, colour, (signal, points) in zip(panels, SIGNAL_COLOURS, lines.items(), strict=False):
        _signal_panel(axes, colour, signal, points, divisor)
    panels[-1].xaxis.set_major_formatter(lambda value, _: f"{value:g} {unit}")
    return png(figure)


def _signal_panel(
    axes: Axes, colour: str, signal: str, points: list[tuple[float, float]], divisor: float
) -> None:
    from matplotlib.ticker import MaxNLocator

    values = [value for _, value in points]
    axes.plot([at / divisor for at, _ in points], values, color=colour, linewidth=1.3)
    clean(axes)
    axes.set_title(readable(signal, 60), loc="left", fontsize=9.5, color=INK, parse_math=False)
    axes.set_title(
        f"{min(values):.4g} to {max(values):.4g}", loc="right", fontsize=8.5, color=MUTED
    )
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.margins(x=0, y=0.12)
