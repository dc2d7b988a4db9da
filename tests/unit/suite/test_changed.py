"""A changed file leads to the tests that can notice it."""

from pathlib import Path

import pytest

from suite.changed import left_out, to_run, touched
from suite.imports import module_of
from suite.request import ROOT, Request, read

FILES = {
    "layers/core/skald/__init__.py": "",
    "layers/core/skald/clock.py": "",
    "layers/core/skald/lock.py": "from skald import clock",
    "functions/batches/schema/0001.batches.sql": "",
    "functions/batches/steps.py": "def step():\n    from .domain import rule",
    "functions/batches/domain.py": "",
    "scripts/platform/stack/part.py": "",
    "statemachines/saga.asl.json": "{}",
    "tests/conftest.py": "",
    "tests/unit/machines.py": "FOLDER, TIER = ROOT / 'statemachines', 'unit'",
    "tests/unit/test_lock.py": "import skald.lock",
    "tests/unit/test_machines.py": "from tests.unit import machines",
    "tests/integration/conftest.py": "from stack.part import Part",
    "tests/integration/child.py": "import skald.clock",
    "tests/integration/test_child.py": "command = ['-m', 'tests.integration.child']",
    "tests/integration/test_steps.py": "PROGRAM = 'from batches.steps import step'",
    "tests/property/test_rules.py": "from batches.domain import rule",
    "tests/e2e/test_flow.py": "import skald.clock",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def runs(checkout: Path, *paths: str, asked: tuple[str, ...] = ()) -> set[str]:
    return set(to_run(touched(paths, checkout), asked, checkout))


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("layers/core/skald/__init__.py", "skald"),
        ("functions/batches/api.py", "batches.api"),
        ("scripts/platform/stack/part.py", "stack.part"),
        ("scripts/suite/imports.py", "suite.imports"),
        ("tests/unit/suite/test_changed.py", "tests.unit.suite.test_changed"),
    ],
)
def test_a_file_has_the_name_that_tests_import_it_by(path: str, module: str) -> None:
    assert module_of(path) == module


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("tests/unit/test_lock.py", {"tests/unit/test_lock.py"}),
        ("layers/core/skald/lock.py", {"tests/unit/test_lock.py"}),
        (
            "layers/core/skald/clock.py",
            {"tests/unit/test_lock.py", "tests/integration/test_child.py"},
        ),
        ("functions/batches/domain.py", {"tests/integration/test_steps.py", "tests/property"}),
        ("scripts/platform/stack/part.py", {"tests/integration"}),
        ("functions/batches/schema/0001.batches.sql", {"tests/integration", "tests/property"}),
        ("statemachines/saga.asl.json", {"tests/unit/test_machines.py"}),
        ("pyproject.toml", {"tests/unit", "tests/property", "tests/integration"}),
        ("tests/unit/notes.txt", set()),
        ("LICENSE", set()),
    ],
)
def test_a_change_runs_what_can_notice_it(checkout: Path, path: str, tests: set[str]) -> None:
    assert runs(checkout, path) == tests


def test_a_module_that_is_gone_still_has_users(checkout: Path) -> None:
    (checkout / "layers/core/skald/lock.py").unlink()
    assert runs(checkout, "layers/core/skald/lock.py") == {"tests/unit/test_lock.py"}


def test_slow_tiers_are_named_and_run_where_asked_for(checkout: Path) -> None:
    clock = "layers/core/skald/clock.py"
    assert left_out(touched([clock], checkout), ()) == ["e2e", "chaos"]
    assert left_out(touched([clock], checkout), ["e2e"]) == ["chaos"]
    assert "tests/e2e" in runs(checkout, clock, asked=("e2e",))
    assert left_out(touched(["tests/unit/test_lock.py"], checkout), ()) == []


def test_each_file_says_why(checkout: Path) -> None:
    paths = ["layers/core/skald/lock.py", "statemachines/saga.asl.json", "LICENSE"]
    assert [str(one) for one in touched(paths, checkout)] == [
        "layers/core/skald/lock.py: imported by test files: 1 unit",
        "statemachines/saga.asl.json: named by test files: 1 unit",
        "LICENSE: named by no test",
    ]


def test_the_base_is_what_is_no_tier() -> None:
    assert read(["--changed"], ROOT) == Request(changed=True)
    assert read(["--changed", "HEAD~2", "e2e", "-x"], ROOT) == Request(
        changed=True, base="HEAD~2", tests=("tests/e2e",), options=("-x",)
    )
    assert read(["--changed", "e2e"], ROOT).base is None
