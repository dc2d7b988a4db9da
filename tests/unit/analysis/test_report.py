"""V-10: the page that people read."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

from tests.unit.analysis.samples import failed, parsed

from batches.analysis.diagnosis import diagnose
from batches.analysis.findings import Diagnosis, KnowledgeSource, ReasoningStep
from batches.analysis.report import (
    Report,
    format_clock,
    format_seconds,
    format_size,
    judge,
    render_html,
)
from batches.analysis.statistics import ParsedFile, gather_statistics

NASTY = "<script>alert('x')</script>"


def report_on(
    *files: ParsedFile, name: str = "Night campaign", diagnosis: Diagnosis | None = None
) -> Report:
    statistics = gather_statistics(files)
    return Report(
        batch_id="0197c1f0",
        name=name,
        outcome="partial" if statistics.files_failed else "complete",
        created_at=datetime(2025, 11, 14, 4, 0, tzinfo=UTC),
        completed_at=datetime(2025, 11, 14, 4, 1, tzinfo=UTC),
        statistics=statistics,
        diagnosis=diagnosis or diagnose(files, statistics),
        stages={"parse": 4.2, "publish": 0.08},
    )


class _Tags(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.seen


def test_the_page_stands_alone() -> None:
    page = render_html(report_on(parsed("a.log", {"BROWNOUT": 3})), {"top_error_codes": b"\x89PNG"})
    found = tags(page)
    assert not [tag for tag, _ in found if tag in ("script", "link", "iframe")]
    assert "http" not in page
    images = [attributes for tag, attributes in found if tag == "img"]
    assert images[0]["src"] == "data:image/png;base64,iVBORw=="
    assert all(image["alt"] for image in images)


def test_hostile_text_from_logs_names_and_reasons_is_escaped() -> None:
    files = [
        parsed(NASTY, {f"BROWNOUT{NASTY}": 3}, critical={f"BROWNOUT{NASTY}": f"low {NASTY}"}),
        parsed("b", {NASTY: 1}, format_name=NASTY),
        failed(f'"{NASTY}', reason=NASTY),
    ]
    page = render_html(report_on(*files, name=NASTY), {f"signals_{NASTY}": b"x"})
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not [a for _, attributes in tags(page) for a in attributes if a.startswith("on")]


def test_the_page_says_what_a_reader_needs() -> None:
    page = render_html(
        report_on(parsed("v3.log", {"BROWNOUT": 30}), failed("x.blf", "cut off")), {}
    )
    for words in ("1 critical finding", "Partial: 1 of 2 files", "cut off", "What to do", "4.2 s"):
        assert words in page
    assert re.search(r"\d\d % confident", page)


def judged(path: list[ReasoningStep], method: str = "agents") -> Diagnosis:
    source = KnowledgeSource(
        title=f"Brown-out {NASTY}", kind="diagnosis", excerpt="Seen last week.", is_shared=False
    )
    return Diagnosis(method=method, summary="The battery.", path=path, sources=[source])


def test_the_page_shows_the_path_and_what_it_leans_on() -> None:
    """V-08: the page shows each agent's turn with model, time and tokens, and its sources."""
    path = [
        ReasoningStep(node="log_expert:text", summary="a sag", model="offline expert"),
        ReasoningStep(
            node="verdict",
            summary=f"the battery {NASTY}",
            model="claude",
            seconds=4.0,
            input_tokens=1_000,
            output_tokens=234,
        ),
    ]
    report = report_on(parsed("a"), diagnosis=judged(path))
    page = render_html(report, {})
    tags(page)
    for words in (
        "log expert, text",
        "a sag",
        "0 ms",
        "claude",
        "4.0 s",
        "1,234",
        "Past diagnosis, your own",
    ):
        assert words in page
    assert "Seen last week." in page
    assert "Judged by agents that asked claude." in page
    assert "<script" not in page
    assert report.model_dump(mode="json")["diagnosis"]["path"][1]["input_tokens"] == 1_000


def test_the_report_says_plainly_who_judged() -> None:
    """V-08: the page and the document say if the offline expert judged."""
    offline = [ReasoningStep(node="logs", summary="one sag", model="offline expert")]
    judges = {
        "offline": judged(offline, "agents, offline expert"),
        "rules alone": diagnose([], gather_statistics([])),
        "agents. ": judged([ReasoningStep(node="logs", summary="nothing to ask")]),
    }
    for words, diagnosis in judges.items():
        report = report_on(parsed("a"), diagnosis=diagnosis)
        assert words in report.judged_by
        assert report.judged_by.endswith("No language model had a part in it.")
        assert report.judged_by in render_html(report, {})
        assert report.model_dump(mode="json")["judged_by"] == report.judged_by


def test_charts_stand_in_one_order_and_lost_ones_are_left_out() -> None:
    charts = {"signals_b": b"1", "events_per_file": b"2", "severity_over_time": b"3", "x": b""}
    images = [a["alt"] for tag, a in tags(render_html(report_on(), charts)) if tag == "img"]
    assert [str(alt).split()[0] for alt in images] == ["When", "How", "Decoded"]


def test_an_empty_batch_renders() -> None:
    page = render_html(report_on(), {})
    assert "Nothing could be read" in page
    assert "NaN" not in page


def test_verdicts() -> None:
    assert judge(report_on(parsed("a"))) == ("good", "No faults found")
    assert judge(report_on(parsed("a", {"X1": 2}))) == ("notice", "Errors without a known cause")
    both = parsed("a", {"BROWNOUT": 2, "GNSS_LOST": 9})
    assert judge(report_on(both)) == ("bad", "1 critical finding, 2 in all")
    assert judge(report_on(parsed("a", {"ULOG_DROPOUT": 9}))).tone == "notice"


def test_a_report_survives_json() -> None:
    report = report_on(parsed("a", {"BROWNOUT": 2}), failed("b"))
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert [row.name for row in report.files] == ["a", "b"]


def test_figures_read_well() -> None:
    assert [format_size(n) for n in (812, 1_400, 320_000, 3_200_000)] == [
        "812 B",
        "1.4 kB",
        "320 kB",
        "3.2 MB",
    ]
    assert format_clock(12.5) == "+12.500 s"
    assert format_clock(1_763_085_600.0) == "2025-11-14 02:00:00"
    assert format_clock(974_168_942.0) == "11-14 02:29:02", "syslog states no year"
    assert format_clock(None) == "–"
    assert format_clock(1e300).startswith("+")
    assert [format_seconds(s) for s in (0.085, 3.2, 250)] == ["85 ms", "3.2 s", "4 min 10 s"]
