"""V-04, V-07, V-08: the diagnosis names the faults that were planted in a fleet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from batches.analysis.charts import draw_charts
from batches.analysis.diagnosis import Diagnosis, diagnose
from batches.analysis.statistics import gather_statistics
from fleet import Truth, generate
from fleet.quality import parse_fleet

SEEDS = range(20)


@dataclass
class Score:
    """Findings compared with faults, over all seeds."""

    found: int = 0
    missed: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        precision = self.found / max(1, self.found + len(self.invented))
        recall = self.found / max(1, self.found + len(self.missed))
        return f"faults {self.found}, precision {precision:.3f}, recall {recall:.3f}"


@pytest.fixture(scope="module")
def score() -> Iterator[Score]:
    total = Score()
    yield total
    print(f"\nsample fleet: {total}")  # pytest -s shows it


def mark(truth: Truth, diagnosis: Diagnosis, score: Score) -> None:
    """Compare by rule and vehicle: the right cause at the wrong vehicle is a false finding."""
    vehicles = {fault.rule: set(fault.vehicles) for fault in truth.faults}
    blamed = {
        finding.rule: {name.partition(".")[0] for name in finding.affected_files}
        for finding in diagnosis.findings
    }
    for rule, expected in vehicles.items():
        if blamed.get(rule, set()) >= expected:
            score.found += 1
        else:
            score.missed.append(f"{rule} (seed {truth.seed})")
    for rule, names in blamed.items():
        if rule not in vehicles or names - vehicles[rule]:
            score.invented.append(f"{rule} (seed {truth.seed})")


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_is_found_and_none_invented(seed: int, tmp_path: Path, score: Score) -> None:
    truth = generate(tmp_path, seed=seed)
    files = parse_fleet(truth, tmp_path)
    diagnosis = diagnose(files, gather_statistics(files))
    mine = Score()
    mark(truth, diagnosis, mine)
    score.found += mine.found
    score.missed += mine.missed
    score.invented += mine.invented
    assert (mine.missed, mine.invented) == ([], [])
    assert all(0.7 <= finding.confidence < 1.0 for finding in diagnosis.findings)


def test_a_fleet_with_bad_files_is_judged_without_them(tmp_path: Path) -> None:
    truth = generate(tmp_path, bad=True)
    files = parse_fleet(truth, tmp_path)
    statistics = gather_statistics(files)
    failed = {file.name: file.reason for file in files if file.status == "failed"}
    assert set(failed) == {file.name for file in truth.files if file.kind == "bad"}
    assert all(failed.values())
    diagnosis = diagnose(files, statistics)
    assert {finding.rule for finding in diagnosis.findings} == truth.expected_rules
    assert "3 files could not be read" in diagnosis.unknowns[-1]


def test_the_parsers_count_what_was_planted(tmp_path: Path) -> None:
    truth = generate(tmp_path)
    features = {file.name: file.features for file in parse_fleet(truth, tmp_path)}
    for file in truth.files:
        parsed = features[file.name]
        if parsed is None or file.kind not in ("text", "can"):
            continue
        assert parsed.total_events == file.lines
        if file.kind == "text":
            assert parsed.top_error_codes == file.codes
            assert (parsed.error_count, parsed.warning_count) == (file.errors, file.warnings)
        else:
            assert parsed.top_error_codes.get("CAN_ERROR_FRAME", 0) == file.error_frames


def test_the_fleet_draws_all_its_charts_small(tmp_path: Path) -> None:
    truth = generate(tmp_path, bad=True)
    files = parse_fleet(truth, tmp_path)

    def tables(file_id: str, name: str) -> str | None:
        path = tmp_path / "tables" / file_id / f"{name}.csv"
        return path.read_text(encoding="utf-8") if path.exists() else None

    charts = draw_charts(files, gather_statistics(files), tables)
    assert len(charts) == 7
    assert max(map(len, charts.values())) < 60_000
