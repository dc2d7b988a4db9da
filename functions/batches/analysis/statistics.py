"""The statistics of a batch: the features of all its files, merged and ranked (V-07)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, Field

from batches.features import Features

CODES_RANKED = 50
FILES_NAMED = 20
"""Most files named per code; `file_count` is always exact."""


class ParsedFile(BaseModel):
    """One file of a batch after its parse job has ended, with or without success."""

    file_id: str
    name: str
    status: Literal["completed", "failed"]
    reason: str | None = None
    """Why it failed, written for the owner of the file."""
    size_bytes: int = Field(default=0, ge=0)
    features: Features | None = None


class RankedCode(BaseModel):
    """An error code across the batch."""

    code: str
    total: int
    file_count: int
    files: list[str]
    """Names of the files with most occurrences, at most `FILES_NAMED`."""


class FileRow(BaseModel):
    """One file as a row of the report."""

    file_id: str
    name: str
    status: Literal["completed", "failed"]
    reason: str | None
    size_bytes: int
    format: str | None = None
    events: int = 0
    errors: int = 0
    warnings: int = 0
    error_percent: float = 0.0
    top_code: str | None = None
    time_start: float | None = None
    time_end: float | None = None
    wall_clock: bool = False


class BatchStatistics(BaseModel):
    """The batch in numbers; for an empty batch they are all zero, never NaN."""

    files_total: int = 0
    files_parsed: int = 0
    files_failed: int = 0
    parsed_percent: float = 0.0
    size_bytes: int = 0
    events: int = 0
    errors: int = 0
    warnings: int = 0
    error_percent: float = 0.0
    warning_percent: float = 0.0
    top_error_codes: list[RankedCode] = Field(default_factory=list)
    """Most frequent first, at most `CODES_RANKED`."""
    formats: dict[str, int] = Field(default_factory=dict)
    files: list[FileRow] = Field(default_factory=list)
    """Most errors first; failed files last."""
    time_start: float | None = None
    """Epoch seconds, over the files with wall-clock time; None if there is no such file."""
    time_end: float | None = None


def percent(part: float, whole: float) -> float:
    """Return `part` of `whole` in percent with two decimals, or 0 if `whole` is 0."""
    return round(100.0 * part / whole, 2) if whole else 0.0


def gather_statistics(files: Sequence[ParsedFile]) -> BatchStatistics:
    """Return the merged results of the parse jobs; the order of `files` does not matter."""
    rows = sorted(map(_row, files), key=_worst_first)
    parsed = [row for row in rows if row.status == "completed"]
    events = sum(row.events for row in parsed)
    errors = sum(row.errors for row in parsed)
    warnings = sum(row.warnings for row in parsed)
    start, end = _wall_clock_range(parsed)
    return BatchStatistics(
        files_total=len(rows),
        files_parsed=len(parsed),
        files_failed=len(rows) - len(parsed),
        parsed_percent=percent(len(parsed), len(rows)),
        size_bytes=sum(row.size_bytes for row in rows),
        events=events,
        errors=errors,
        warnings=warnings,
        error_percent=percent(errors, events),
        warning_percent=percent(warnings, events),
        top_error_codes=_rank_codes(files),
        formats=_count_formats(parsed),
        files=rows,
        time_start=start,
        time_end=end,
    )


def _row(file: ParsedFile) -> FileRow:
    row = FileRow(
        file_id=file.file_id,
        name=file.name,
        status=file.status,
        reason=file.reason,
        size_bytes=file.size_bytes,
    )
    features = file.features
    if features is None or file.status == "failed":
        return row
    return row.model_copy(
        update={
            "format": features.format,
            "events": features.total_events,
            "errors": features.error_count,
            "warnings": features.warning_count,
            "error_percent": percent(features.error_count, features.total_events),
            "top_code": next((code for code, _ in ranked_codes(features)), None),
            "time_start": features.time_start,
            "time_end": features.time_end,
            "wall_clock": features.wall_clock,
        }
    )


def _worst_first(row: FileRow) -> tuple[bool, int, int, str, str]:
    return (row.status == "failed", -row.errors, -row.warnings, row.name, row.file_id)


def completed(files: Iterable[ParsedFile]) -> list[tuple[ParsedFile, Features]]:
    """Return the completed files with their features."""
    return [(f, f.features) for f in files if f.status == "completed" and f.features is not None]


def ranked_codes(features: Features) -> list[tuple[str, int]]:
    """Return a file's codes, most frequent first; JSON storage does not keep their order."""
    return sorted(features.top_error_codes.items(), key=lambda item: (-item[1], item[0]))


def _rank_codes(files: Sequence[ParsedFile]) -> list[RankedCode]:
    seen: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for file, features in completed(files):
        for code, count in features.top_error_codes.items():
            seen[code][file.name, file.file_id] += count
    ranked = [_ranked(code, by_file) for code, by_file in seen.items()]
    ranked.sort(key=lambda entry: (-entry.total, entry.code))
    return ranked[:CODES_RANKED]


def _ranked(code: str, by_file: Counter[tuple[str, str]]) -> RankedCode:
    worst = sorted(by_file, key=lambda file: (-by_file[file], file))
    return RankedCode(
        code=code,
        total=by_file.total(),
        file_count=len(worst),
        files=[name for name, _ in worst[:FILES_NAMED]],
    )


def _count_formats(rows: Sequence[FileRow]) -> dict[str, int]:
    counts = Counter(row.format for row in rows if row.format)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _wall_clock_range(rows: Sequence[FileRow]) -> tuple[float | None, float | None]:
    timed = [row for row in rows if row.wall_clock]
    starts = [row.time_start for row in timed if row.time_start is not None]
    ends = [row.time_end for row in timed if row.time_end is not None]
    return min(starts, default=None), max(ends, default=None)
