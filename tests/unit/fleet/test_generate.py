"""The sample fleet: the files contain what its truth says."""

import hashlib
import json
import time
from collections import Counter
from pathlib import Path

import can
import cantools
import pytest

from batches.analysis.rules import RULES
from fleet import Truth, generate
from fleet.__main__ import main
from fleet.catalogue import CATALOGUE
from fleet.truth import FileTruth

LEVELS = {"ERROR": ("ERROR", "[error]", "FATAL", "[fatal]"), "WARN": ("WARN", "[warn]")}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def truth(directory: Path) -> Truth:
    return generate(directory)


def digests(directory: Path) -> dict[str, str]:
    files = sorted(directory.iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_default_fleet_is_a_demo_of_three_faults(truth: Truth) -> None:
    assert [fault.fault for fault in truth.faults] == [
        "can_bus_off",
        "battery_brownout",
        "ota_signature_mismatch",
    ]
    assert truth.healthy_vehicles
    assert 8 <= len(truth.files) <= 12
    assert 5e6 < truth.size_bytes < 15e6


def test_equal_seeds_give_equal_bytes_wherever_they_run(
    truth: Truth, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    generate(tmp_path)
    monkeypatch.undo()
    time.tzset()
    assert digests(tmp_path) == digests(directory)


def test_seeds_pick_different_faults(tmp_path: Path) -> None:
    seen = {f.fault for seed in range(6) for f in generate(tmp_path / str(seed), seed=seed).faults}
    assert len(seen) > 4


def test_text_logs_hold_the_lines_counted(truth: Truth, directory: Path) -> None:
    for file in (file for file in truth.files if file.kind == "text"):
        lines = (directory / file.name).read_text(encoding="utf-8").splitlines()
        assert len(lines) == file.lines
        assert _with(lines, "ERROR") == file.errors == sum(file.codes.values())
        assert _with(lines, "WARN") == file.warnings > 0
        for code, count in file.codes.items():
            assert sum(f" {code} " in line for line in lines) == count


def _with(lines: list[str], level: str) -> int:
    heads = [line[:70] for line in lines]
    return sum(any(word in head for word in LEVELS[level]) for head in heads)


def test_can_recordings_decode_to_the_faults_planted(truth: Truth, directory: Path) -> None:
    formats = set()
    for file in (file for file in truth.files if file.kind == "can"):
        frames, errors, outside = _read_can(directory, file)
        formats.add(file.format)
        assert (frames, errors, outside) == (file.lines, file.error_frames, file.out_of_range)
    assert formats == {"candump", "asc", "blf", "trc"}


def _read_can(directory: Path, file: FileTruth) -> tuple[int, int, dict[str, int]]:
    database = cantools.database.load_file(directory / "fleet.dbc")
    assert isinstance(database, cantools.database.Database)
    signals = {s.name: s for message in database.messages for s in message.signals}
    frames, errors, outside = 0, 0, Counter[str]()
    with can.LogReader(directory / file.name) as reader:
        for frame in reader:
            frames += 1
            errors += frame.is_error_frame
            if frame.is_error_frame or frame.arbitration_id in (0x1C4, 0x2E4):
                continue
            decoded = database.decode_message(
                frame.arbitration_id, bytes(frame.data), decode_choices=False
            )
            assert isinstance(decoded, dict)
            for name, value in decoded.items():
                low, high = signals[name].minimum, signals[name].maximum
                assert isinstance(value, int | float)
                assert low is not None
                assert high is not None
                outside[name] += not low <= value <= high
    return frames, errors, {name: count for name, count in outside.items() if count}


def test_every_fault_is_named_as_the_rules_name_it() -> None:
    titles = {rule.key: rule.title for rule in RULES}
    assert all(titles[fault.rule] == fault.title for fault in CATALOGUE)
    assert len({fault.key for fault in CATALOGUE}) == len(CATALOGUE)


def test_healthy_vehicles_have_noise_but_hardly_an_error(truth: Truth) -> None:
    healthy = [file for file in truth.files if file.vehicle in truth.healthy_vehicles]
    assert all(file.errors <= 1 for file in healthy)
    assert any(file.errors for file in healthy)


def test_faults_show_where_the_truth_says(truth: Truth) -> None:
    for fault in truth.faults:
        files = [file for file in truth.files if file.name in fault.files]
        assert {file.vehicle for file in files} == set(fault.vehicles)
        assert all(any(code in file.codes for file in files) for code in fault.codes)


def test_bad_files_join_on_request(tmp_path: Path) -> None:
    truth = generate(tmp_path, bad=True)
    bad = {file.name: file for file in truth.files if file.kind == "bad"}
    assert set(bad) == {"empty.log", "truncated.blf", "screenshot.log"}
    assert bad["empty.log"].size_bytes == 0
    assert (tmp_path / "screenshot.log").read_bytes().startswith(b"\x89PNG")


def test_a_fleet_too_small_for_its_faults_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 4"):
        generate(tmp_path, vehicles=3)
    assert len(generate(tmp_path, vehicles=4).faults) == 3


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--vehicles", "8", "--seed", "3", "--bad"]) == 0
    said = capsys.readouterr().out
    assert "healthy: " in said
    written = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert written["seed"] == 3
    assert len(written["vehicles"]) == 8
    assert all((tmp_path / file["name"]).exists() for file in written["files"])
