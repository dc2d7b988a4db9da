"""`tests/requirements.md` is correct: ids, states and tests agree with the code."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.unit.test_traceability import DEFINED, exists

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
HEADING = re.compile(r"^### (?P<id>[CGWVQPX]-\d\d) · (?P<state>\w+)$")
PROOF = re.compile(r"^- `(?P<test>.+)`$")
QUOTED = re.compile(r"\b[CGWVQPX]-\d\d\b")
STATES = {"done", "partly", "open"}
KINDS = {"C": 9, "G": 17, "W": 9, "V": 14, "Q": 10, "P": 12, "X": 14}


@dataclass
class Row:
    """A requirement in the file."""

    id: str
    state: str
    tests: list[str] = field(default_factory=list)
    missing: str = ""


def rows() -> list[Row]:
    """Read the rows of the file in their order."""
    found: list[Row] = []
    for line in (TESTS / "requirements.md").read_text().splitlines():
        if heading := HEADING.match(line):
            found.append(Row(heading["id"], heading["state"]))
        elif proof := PROOF.match(line):
            found[-1].tests.append(proof["test"])
        elif line.startswith("Missing: "):
            found[-1].missing = line
    return found


ROWS = rows()
PROOFS = sorted({test for row in ROWS for test in row.tests})


def test_every_row_is_there_once_and_in_order() -> None:
    """A lost, doubled or misspelled row is found."""
    ids = [f"{kind}-{number:02}" for kind, last in KINDS.items() for number in range(1, last + 1)]
    assert [row.id for row in ROWS] == ids


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_state_says_what_is_there(row: Row) -> None:
    """A finished requirement has a test; a partial one says what is missing."""
    assert row.state in STATES
    assert bool(row.tests) == (row.state != "open")
    assert bool(row.missing) == (row.state == "partly")


@pytest.mark.parametrize("test", PROOFS)
def test_every_named_test_exists(test: str) -> None:
    """A renamed or deleted test is the lost proof of its rule."""
    assert exists(test)


def test_every_quoted_id_is_a_row() -> None:
    """Each id in a docstring can be looked up."""
    sources = [*DEFINED, *ROOT.glob("functions/**/*.py"), *ROOT.glob("layers/core/**/*.py")]
    quoted = {one for file in sources for one in QUOTED.findall(file.read_text())}
    assert quoted - {row.id for row in ROWS} == set()
