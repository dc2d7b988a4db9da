"""The documents are readable, and the things that they name exist."""

import re
import tomllib

import pytest
from tests.unit.test_stands_alone import ROOT, texts

DOCUMENTS = {
    str(file.relative_to(ROOT)): file.read_text() for file in texts() if file.suffix == ".md"
}
COMMAND = re.compile(r"(?<![\w/-])scripts/([a-z-]+)")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
FUNCTION = re.compile(r"\]\(([^)]+\.py)\) `(\w+)`")
LONGEST = 200
FOLDERS = ("events", "functions", "layers", "scripts", "statemachines", "tests")


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_lines_are_readable(name: str) -> None:
    """A line longer than a screen is hard to read, and a review hides its changes."""
    assert [line for line in DOCUMENTS[name].splitlines() if len(line) > LONGEST] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """A link names a file of the repository, and a heading of the file."""
    for place, heading in LINK.findall(DOCUMENTS[name]):
        target = (ROOT / name).parent / place if place else ROOT / name
        assert target.exists(), place
        assert not heading or heading in anchors(target.read_text()), heading


@pytest.mark.parametrize("name", DOCUMENTS)
def test_functions_that_documents_name_are_there(name: str) -> None:
    """A reader who follows a walk through files finds the function of each step."""
    for place, function in FUNCTION.findall(DOCUMENTS[name]):
        source = ((ROOT / name).parent / place).read_text()
        assert re.search(rf"^ *def {function}\b", source, re.MULTILINE), (place, function)


def test_the_kernel_is_explained_in_the_order_of_its_imports() -> None:
    """The document and import-linter have the same order."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    kernel = next(one for one in rules["contracts"] if one.get("containers") == ["skald"])
    layers = [set(re.findall(r"\w+", layer)) for layer in kernel["layers"]]
    block = re.search(r"### Order of imports.*?```\n(.*?)```", DOCUMENTS["layers/README.md"], re.S)
    assert block
    assert [set(re.findall(r"\w+", line)) for line in block[1].splitlines()] == layers


def test_every_decision_is_linked() -> None:
    """Readers find a decision record only through a link."""
    records = {name.removeprefix("layers/") for name in DOCUMENTS if "/decisions/" in name}
    assert records
    assert records - {place for place, _ in LINK.findall(DOCUMENTS["layers/README.md"])} == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_commands_of_the_documents_exist(name: str) -> None:
    """C-05: a reader can run every script that a document names."""
    commands = set(COMMAND.findall(DOCUMENTS[name]))
    assert {name for name in commands if not (ROOT / "scripts" / name).exists()} == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_explains_itself(folder: str) -> None:
    """C-01: a folder at the top has a README that says what is in it and why."""
    assert len(DOCUMENTS[f"{folder}/README.md"].splitlines()) > 10


def test_the_top_level_is_what_it_should_be() -> None:
    """C-01: folders, template and README are at the top; the other files there belong to tools."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
    assert folders - {"__pycache__"} == set(FOLDERS)
    assert (ROOT / "template.yaml").exists()
    assert (ROOT / "README.md").exists()
