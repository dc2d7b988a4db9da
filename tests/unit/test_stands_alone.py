"""The repository stands alone: nothing in it cites a document outside of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CITATION = re.compile(r"(?-i:\bDESIGN\b)|\b(?:design|issue|section) \d|\.\./shared", re.IGNORECASE)
SUFFIXES = {"", ".html", ".in", ".j2", ".json", ".md", ".py", ".sh", ".sql", ".toml", ".yaml"}
THIS = Path(__file__)
LIBRARIES = {
    "aws-lambda-powertools": "aws_lambda_powertools",
    "boto3": "boto3",
    "moto": "moto",
    "psycopg": "psycopg",
    "pydantic": "pydantic",
    "pytest": "pytest",
    "redis": "redis",
}


def texts() -> list[Path]:
    """Return every text file outside of hidden folders, without this one."""
    visible = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    files = [file for path in visible for file in [path, *path.rglob("*")]]
    return [file for file in files if is_text(file) and file != THIS]


def is_text(file: Path) -> bool:
    """Say whether a path is a text file."""
    return file.suffix in SUFFIXES and "__pycache__" not in file.parts and file.is_file()


def citations(text: str) -> list[str]:
    """Return the lines that cite a section or an issue of a document by its number."""
    return [line for line in text.splitlines() if CITATION.search(line)]


def test_nothing_cites_a_document_outside_of_the_repository() -> None:
    """A reader has only the repository, so a rule names its requirement or explains itself."""
    found = {str(file.relative_to(ROOT)): citations(file.read_text()) for file in texts()}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize("line", ["see DESIGN", "Issue 3: kept", "design 4", "../shared/data"])
def test_citations_are_found(line: str) -> None:
    """The check above finds each form of a citation."""
    assert citations(line) == [line]


def test_plain_words_are_no_citation() -> None:
    """The check accepts the same words in ordinary sentences."""
    assert citations("The design is simple. Tokens issue from here, in 3 ways.") == []


def test_the_libraries_are_pinned_and_used() -> None:
    """C-02: each library is in a requirements file and is imported by the code."""
    asked = "\n".join(file.read_text() for file in ROOT.glob("**/requirements*.in"))
    code = "\n".join(file.read_text() for file in texts() if file.suffix == ".py")
    for library, module in LIBRARIES.items():
        assert re.search(rf"^{library}\b", asked, re.MULTILINE), library
        assert re.search(rf"^\s*(?:import|from) {module}\b", code, re.MULTILINE), library
