"""The report of a batch: one JSON document, and one self-contained HTML page (V-10)."""

from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, Field, model_validator

from batches.analysis.findings import Diagnosis
from batches.analysis.statistics import BatchStatistics, FileRow
from batches.wording import counted

if TYPE_CHECKING:
    from jinja2 import Template

FILES_LISTED = 500
CODES_LISTED = 20
_WALL_CLOCK_SINCE = 631_152_000.0
"""1990, in epoch seconds; smaller time stamps count from the start of a recording."""
_YEARLESS = 2000
"""The year of times from logs that state no year, such as syslog."""
_CAPTIONS = {
    "severity_over_time": "When warnings and errors happened, worst file first",
    "top_error_codes": "The most frequent error codes and how many files show them",
    "events_per_file": "How much each file holds, and which could not be read",
}
_KINDS = {"error_code": "Error code", "diagnosis": "Past diagnosis"}


class Report(BaseModel):
    """The whole report of a batch."""

    batch_id: str
    name: str
    status: str = "completed"
    outcome: Literal["complete", "partial"]
    """Partial if some files could not be parsed."""
    created_at: datetime
    completed_at: datetime
    statistics: BatchStatistics
    diagnosis: Diagnosis
    files: list[FileRow] = Field(default_factory=list)
    """The default is the files of the statistics."""
    charts: dict[str, str] = Field(default_factory=dict)
    """Chart name -> S3 key."""
    stages: dict[str, float] = Field(default_factory=dict)
    """Stage -> seconds, in the order in which the stages ran."""
    judged_by: str = ""
    """Who judged, and whether a language model took part; derived from the diagnosis."""
    generated_by: str = "Skald"

    @model_validator(mode="after")
    def _complete(self) -> "Report":
        self.files = self.files or self.statistics.files
        self.judged_by = name_judge(self.diagnosis)
        return self


class Headline(NamedTuple):
    """The state of the batch in one sentence."""

    tone: Literal["good", "notice", "bad"]
    words: str


class Chart(NamedTuple):
    """An image for the page: its data URL and its caption."""

    source: str
    caption: str


def render_html(report: Report, charts: Mapping[str, bytes]) -> str:
    """Return the report as one HTML page, without scripts, external fonts or links.

    `charts` are PNGs by name. All text from logs is escaped.
    """
    return _template().render(
        report=report,
        figures=report.statistics,
        diagnosis=report.diagnosis,
        verdict=judge(report),
        charts=[_chart(name, charts[name]) for name in sorted(charts, key=_place) if charts[name]],
        codes=report.statistics.top_error_codes[:CODES_LISTED],
        files=report.files[:FILES_LISTED],
        files_left_out=max(0, len(report.files) - FILES_LISTED),
    )


def judge(report: Report) -> Headline:
    """Return the state of the batch in one sentence."""
    if not report.statistics.files_parsed:
        return Headline("bad", "Nothing could be read")
    findings = report.diagnosis.findings
    if not findings:
        clean = not report.statistics.errors
        words = "No faults found" if clean else "Errors without a known cause"
        return Headline("good" if clean else "notice", words)
    grades = Counter(finding.severity for finding in findings)
    for grade in ("critical", "high"):
        if grades[grade]:
            rest = "" if grades[grade] == len(findings) else f", {len(findings)} in all"
            return Headline("bad", f"{counted(grades[grade], f'{grade} finding')}{rest}")
    return Headline("notice", f"{counted(len(findings), 'finding')}, none of them urgent")


def name_judge(diagnosis: Diagnosis) -> str:
    """Say who judged; the sentence always says whether a language model took part."""
    models = {step.model for step in diagnosis.path if step.model}
    offline = {model for model in models if "offline" in model}
    if asked := sorted(models - offline):
        return f"Judged by agents that asked {' and '.join(asked)}."
    judge = "agents" if diagnosis.path else f"{diagnosis.method} alone"
    source = ", whose offline expert follows rules and a knowledge base" if offline else ""
    return f"Judged by {judge}{source}. No language model had a part in it."


def name_kind(kind: str) -> str:
    """Return the display name of a kind of knowledge entry."""
    return _KINDS.get(kind, kind)


def name_node(node: str) -> str:
    """Return the display name of a node: log_expert:text becomes log expert, text."""
    return node.replace("_", " ").replace(":", ", ")


def _place(name: str) -> tuple[int, str]:
    """Return the sort key of a chart; a mapping that was stored as JSON has lost its order."""
    known = list(_CAPTIONS)
    return (known.index(name) if name in known else len(known), name)


def _chart(name: str, image: bytes) -> Chart:
    caption = _CAPTIONS.get(name)
    if caption is None:
        caption = f"Decoded signals of {name.removeprefix('signals_')}"
    return Chart(f"data:image/png;base64,{b64encode(image).decode('ascii')}", caption)


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "counted": counted,
        "size": format_size,
        "clock": format_clock,
        "seconds": format_seconds,
        "kind": name_kind,
        "node": name_node,
    }
    return environment.get_template("report.html.j2")


def format_size(size: float) -> str:
    """Return a size in words: 812 B, 1.4 kB, 3.2 MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def format_clock(timestamp: float | datetime | None) -> str:
    """Return a time in UTC, or seconds since the recording began if there is no wall clock."""
    if timestamp is None:
        return "–"
    if isinstance(timestamp, datetime):
        return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if not _WALL_CLOCK_SINCE <= timestamp < 32_503_680_000.0:
        return f"+{timestamp:,.3f} s"
    moment = datetime.fromtimestamp(timestamp, UTC)
    if moment.year == _YEARLESS:
        return f"{moment:%m-%d %H:%M:%S}"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def format_seconds(seconds: float) -> str:
    """Return a duration in words: 85 ms, 3.2 s, 4 min 10 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
