"""X-09: a new context is its folder, its group in the template, its state machines and events.

The tests add the toy context of `tests/toy` to a copy of the repository. The kernel finds it there,
and the checks of the other contexts apply to it.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.toy.workspace import ADDED, ROOT, TOY, copy_with_toy

CHECKS = [
    "tests/unit/test_template.py",
    "tests/unit/test_statemachines.py",
    "tests/unit/test_contexts.py",
    "tests/unit/test_rights.py",
    "tests/unit/test_cold_start.py",
    "tests/unit/test_pure_domains.py",
    "tests/e2e/test_functions.py::test_every_function_has_an_event",
    "tests/integration/test_tenancy.py",
]
FOREIGN_IMPORT = "from batches import domain as batches\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the toy context in it."""
    folder = tmp_path_factory.mktemp("with-toy") / "skald"
    copy_with_toy(folder)
    return folder


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in the copy."""
    scripts = Path(sys.executable).parent
    return subprocess.run(  # noqa: S603 (our own programs)
        [scripts / arguments[0], *arguments[1:]],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": "functions:layers/core"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def run_tests(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(copy, "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def hashes(root: Path) -> dict[str, str]:
    """Return a digest of every file below the folders and beside them, by its path."""
    folders = ("functions", "layers", "statemachines", "events", "scripts", "tests")
    files = [file for folder in folders for file in (root / folder).rglob("*")]
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in [*files, *root.glob("*.*")]
        if file.is_file() and "__pycache__" not in file.parts
    }


def check_imports(copy: Path) -> subprocess.CompletedProcess[str]:
    rules = copy / "import-rules.toml"
    rules.write_text(run(copy, "python", "scripts/import_rules.py").stdout)
    return run(copy, "lint-imports", "--no-cache", "--config", rules.name)


def test_a_context_adds_files_and_edits_none(copy: Path) -> None:
    """X-09: only the template grows, at its end."""
    before, after = hashes(ROOT), hashes(copy)
    changed = {file for file in before if after[file] != before[file]}
    assert changed == {"template.yaml"}
    assert (copy / "template.yaml").read_text().startswith((ROOT / "template.yaml").read_text())
    added = {file for file in after if file not in before}
    assert added == {
        str(file.relative_to(TOY))
        for part in ADDED
        for file in (TOY / part).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_checks_of_every_context_hold_for_a_new_one(copy: Path) -> None:
    """X-09, Q-03: template, rights, state machines, cold starts, events and tenancy."""
    done = run_tests(copy, *CHECKS)
    assert done.returncode == 0, done.stdout
    counted = run_tests(copy, "--collect-only", *CHECKS[:4]).stdout
    for part in ("CountWords", "NoteQueue", "note_count", "notes.steps:give_up"):
        assert part in counted, "the checks did not look at the toy"


def test_every_route_of_a_new_context_is_asked(copy: Path) -> None:
    """X-09, Q-09: the OpenAPI document has its routes, and the fuzzer sends requests to them."""
    done = run_tests(copy, "tests/integration/test_fuzz.py", "-k", "notes")
    assert done.returncode == 0, done.stdout
    assert "10 passed" in done.stdout, "two tests of five routes"


def test_import_rules_bind_a_new_context(copy: Path) -> None:
    """X-09: they hold for the toy, and they fail when it imports another context."""
    assert check_imports(copy).returncode == 0
    domain = copy / "functions" / "notes" / "domain.py"
    text = domain.read_text()
    domain.write_text(text + FOREIGN_IMPORT)
    try:
        broken = check_imports(copy)
    finally:
        domain.write_text(text)
    assert broken.returncode == 1
    assert "notes is not allowed to import batches" in broken.stdout
