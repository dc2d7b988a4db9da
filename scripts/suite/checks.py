"""Runs ruff, mypy, import-linter, sam and cfn-lint in parallel."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from import_rules import as_toml, rules
from suite import environment
from suite.request import ROOT

_SOURCES = ("functions", "layers/core/skald", "scripts", "tests")
_TOOLS = ROOT / ".local" / "tools" / "bin"


@dataclass(frozen=True)
class Check:
    """A command that exits with 0 if it finds nothing."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The result of a check; `output` is text for people."""

    check: Check
    clean: bool
    output: str


TYPES = Check("types", ("mypy",))


def all_checks() -> list[Check]:
    """Return every check, the longest first."""
    return [
        TYPES,
        Check("template (sam)", (f"{_TOOLS}/sam", "validate", "--lint")),
        Check("template (cfn-lint)", (f"{_TOOLS}/cfn-lint", "template.yaml")),
        Check("import rules", ("lint-imports", "--no-logo", "--config", _import_rules())),
        *on_sources(_SOURCES),
    ]


def _import_rules() -> str:
    """Write the import rules, with those of all contexts found, to a file; return its path."""
    path = ROOT / ".local" / "import-rules.toml"
    path.write_text(as_toml(rules(ROOT)))
    return str(path)


def on_sources(paths: Sequence[str]) -> list[Check]:
    """Return the checks that examine each file by itself."""
    return [
        Check("ruff", ("ruff", "check", "--quiet", *paths)),
        Check("format", ("ruff", "format", "--check", "--quiet", *paths)),
    ]


def run(checks: Sequence[Check]) -> bool:
    """Run the checks, print what they find, and return whether all are clean."""
    environment.ensure_tools()
    began = time.monotonic()
    with ThreadPoolExecutor(os.process_cpu_count()) as pool:
        outcomes = list(pool.map(_outcome, checks))
    found = [outcome for outcome in outcomes if not outcome.clean]
    for outcome in found:
        _say(f"\n{outcome.check.name} found:\n{outcome.output.strip()}")
    if found:
        _say(f"\nerror: {', '.join(outcome.check.name for outcome in found)} found something")
    else:
        names = ", ".join(check.name for check in checks)
        _say(f"clean: {names} ({time.monotonic() - began:.1f} s)")
    return not found


def _outcome(check: Check) -> Outcome:
    paths = os.pathsep.join(str(ROOT / path) for path in ("functions", "layers/core"))
    done = subprocess.run(
        check.command,
        cwd=ROOT,
        env=os.environ | {"SAM_CLI_TELEMETRY": "0", "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Outcome(check, done.returncode == 0, done.stdout)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
