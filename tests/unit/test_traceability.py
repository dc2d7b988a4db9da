"""Each rule has its test: the names in `tests/README.md` exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FUNCTION = re.compile(r"^(?:async )?def (test_\w+)", re.M)
DEFINED = {path: set(FUNCTION.findall(path.read_text())) for path in TESTS.rglob("test_*.py")}
NAMED = re.findall(r"`((?:\w+/)*\w+(?:\.\w+)?(?:::\w+)?)`", (TESTS / "README.md").read_text())
PLACES = sorted({name for name in NAMED if "test_" in name or "/" in name})


def files(place: str) -> list[Path]:
    """Return the test files of a path below `tests/`, or of the end of a path."""
    return [path for path in DEFINED if str(path).endswith(f"/{place}")]


def exists(place: str) -> bool:
    """Say whether a test, a file, a test of a file, or a folder exists."""
    where, _, function = place.rpartition("::")
    if where:
        return any(function in DEFINED[path] for path in files(where))
    if place.endswith(".py") and files(place):
        return True
    if (TESTS / place).exists() or (TESTS.parent / place).exists():
        return True
    return any(place in names for names in DEFINED.values())


@pytest.mark.parametrize("place", PLACES)
def test_what_proves_a_rule_exists(place: str) -> None:
    """A renamed or deleted test is the lost proof of its rule."""
    assert exists(place)


def test_the_names_are_found() -> None:
    """The check above finds names."""
    assert len(PLACES) > 150
    assert not exists("integration/test_outbox.py::test_that_never_was")
    assert not exists("test_that_never_was")
