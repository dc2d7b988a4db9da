"""The two pytest processes of a whole run end with one line that counts both."""

import pytest

from suite.lanes import LANES, Result, conclude, lanes_of, run
from suite.request import TIERS

CLEAN = Result("one", 0, "...\n2 passed, 1 deselected in 0.10s\n")
FAILED = Result(
    "two",
    1,
    "= FAILURES =\nERROR    skald:api.py:7 a log line\nassert 7 passed in 1.00s\n"
    "FAILED tests/a.py::test_a - assert 1\nERROR tests/a.py::test_b\n"
    "==== 1 failed, 3 passed, 1 skipped, 1 error in 62.10s (0:01:02) ====\n",
)


def closing(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_every_tier_is_in_one_lane() -> None:
    assert sorted(tier for lane in LANES for tier in lane) == sorted(TIERS)
    assert lanes_of([]) == [[f"tests/{tier}" for tier in lane] for lane in LANES]


def test_tiers_are_shared_out_and_anything_else_stays_together() -> None:
    assert lanes_of(["tests/e2e", "tests/unit"]) == [["tests/unit"], ["tests/e2e"]]
    assert lanes_of(["tests/unit", "tests/property"]) == [["tests/unit", "tests/property"]]
    assert lanes_of(["tests/e2e", "tests/unit/x.py"]) == [["tests/e2e", "tests/unit/x.py"]]


def test_all_passed(capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude([CLEAN, CLEAN], 60) == 0
    assert closing(capsys)[-1] == "4 passed, 0 failed"


def test_a_failure_in_one_process_fails_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude([CLEAN, FAILED], 60) == 1
    lines = closing(capsys)
    assert lines[-1] == "5 passed, 2 failed, 1 skipped"
    assert lines[:2] == ["FAILED tests/a.py::test_a - assert 1", "ERROR tests/a.py::test_b"]


@pytest.mark.parametrize("output", ["", "no tests ran in 0.01s\n", "Segmentation fault\n"])
def test_a_process_that_ran_no_test_fails_the_whole(
    capsys: pytest.CaptureFixture[str], output: str
) -> None:
    assert conclude([CLEAN, Result("two", 5, output)], 60) == 1
    assert "two" in closing(capsys)[0]


def test_a_lane_that_died_counts_as_a_failure_in_the_closing_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    conclude([CLEAN, Result("two", -9, "....")], 60)
    assert closing(capsys)[-1] == "2 passed, 1 failed"


def test_lanes_run_and_their_outputs_follow_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    request = "tests/unit/suite/test_request.py"
    assert run([[f"{request}::test_nothing_asks_for_everything"], [f"{request}::test_no"]]) == 1
    first, *lines = closing(capsys)
    assert first.endswith("test_nothing_asks_for_everything")
    assert any(line.endswith("::test_no") for line in lines)
    assert lines[-1] == "1 passed, 1 failed"
