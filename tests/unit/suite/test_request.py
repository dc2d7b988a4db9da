"""The arguments of scripts/test reach pytest as a person means them."""

import pytest

from suite.request import ROOT, Request, UsageError, read

THIS = "tests/unit/suite/test_request.py"


def test_nothing_asks_for_everything() -> None:
    assert read([], ROOT) == Request()
    assert read([], ROOT).everything
    assert read(["-k", "outbox"], ROOT).everything


@pytest.mark.parametrize(
    ("word", "folder"),
    [
        (THIS, "."),
        ("unit/suite/test_request.py", "."),
        ("suite/test_request.py", "tests/unit"),
        ("test_request.py", "tests/unit/suite"),
        (THIS, "functions"),
        (str(ROOT / THIS), "functions"),
    ],
)
def test_a_path_is_found_from_where_it_is_typed(word: str, folder: str) -> None:
    request = read([f"{word}::test_x[a::b]", "-x"], ROOT / folder)
    assert request == Request(tests=(f"{THIS}::test_x[a::b]",), options=("-x",))
    assert not request.everything


def test_tiers_paths_and_folders_stand_side_by_side() -> None:
    request = read(["lint", "unit", THIS, "unit/suite", "--", "-q", "-k", "unit"], ROOT)
    assert request.lint
    assert request.tests == ("tests/unit", THIS, "tests/unit/suite")
    assert request.options == ("-q", "-k", "unit")


def test_a_path_may_stand_after_options() -> None:
    request = read(["--", "unit/suite/test_request.py::test_x", "--pdb"], ROOT)
    assert request.options == (f"{THIS}::test_x", "--pdb")
    assert not request.everything


@pytest.mark.parametrize("word", ["uint", "unit/test_nothing.py", "functions", "README.md"])
def test_what_is_no_test_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=word):
        read([word], ROOT)
