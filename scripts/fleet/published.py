"""Judges the diagnosis on public recordings whose true faults are published with them."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from batches.analysis.findings import Diagnosis
from fleet.quality import Judge, Tally, parse_file

_NORMAL = "-"
"""Label of a line that is not an alert."""
_LABELLED = ("loghub/BGL_halfA/BGL_1k.log", "loghub/Thunderbird/Thunderbird_2k.log")
_DROPPED_OUT = ("ulog/sample",)
_QUIET = ("comma2k19/raw_can_00-30s.candump.log", "ulog/sample_px4_events.ulg")
"""A drive and a simulated flight without known faults."""


@dataclass(frozen=True)
class Marks:
    """The tally of one recording, and the unit of its counts."""

    recording: str
    unit: str
    tally: Tally


def judge_published(data: Path, judge: Judge) -> Iterator[Marks]:
    """Diagnose each recording as its own batch, and compare the result with the truth."""
    with TemporaryDirectory(prefix="skald-published-") as folder:
        tables = Path(folder)
        for name in _LABELLED:
            yield _lines(data / name, tables, judge)
        for name in _DROPPED_OUT:
            yield _dropouts(data / name, tables, judge)
        for name in _QUIET:
            findings = len(_diagnosed(data / name, tables, judge).findings)
            yield Marks(Path(name).name, "findings", Tally(invented=findings))


def _diagnosed(path: Path, tables: Path, judge: Judge) -> Diagnosis:
    return judge([parse_file(path, tables, {})])


def _lines(path: Path, tables: Path, judge: Judge) -> Marks:
    """Compare the lines whose codes are in findings with the lines labelled as alerts."""
    diagnosis = _diagnosed(path, tables, judge)
    blamed = {code for finding in diagnosis.findings for code in finding.error_codes}
    tally = Tally()
    truth = _rows(path.with_name(f"{path.name}_structured.csv"))
    for event, row in zip(_rows(tables / path.name / "events.csv"), truth, strict=True):
        is_blamed, is_alert = event["code"] in blamed, row["Label"] != _NORMAL
        tally += Tally(is_blamed and is_alert, is_alert > is_blamed, is_blamed > is_alert)
    return Marks(path.name, "lines", tally)


def _dropouts(path: Path, tables: Path, judge: Judge) -> Marks:
    """Compare the dropouts found with the number in the published summary."""
    diagnosis = _diagnosed(path.with_suffix(".ulg"), tables, judge)
    found = sum(one.occurrences for one in diagnosis.findings if one.rule == "dropout")
    summary = path.with_name(f"{path.name}_info.txt").read_text()
    counted = re.search(r"Dropouts: count: (\d+)", summary)
    true = int(counted[1]) if counted else 0
    tally = Tally(min(found, true), max(0, true - found), max(0, found - true))
    return Marks(f"{path.name}.ulg", "dropouts", tally)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
