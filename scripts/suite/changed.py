"""Finds the tests that a change affects, and prints the reason."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from suite.imports import Sources, tests_by_tier
from suite.request import ROOT, UsageError

# These tiers take minutes, because they start a platform. They run only if they are selected.
SLOW = ("platform", "e2e", "chaos")

_QUICK = ("unit", "property", "integration")
_WITH_DATABASE = ("property", "integration")
_DEPLOYED = ("functions/", "layers/", "statemachines/", "template.yaml")
_OF_EVERY_TEST = ("pyproject.toml", "requirements-dev.txt", ".python-version")


@dataclass(frozen=True)
class Touched:
    """The tests that one changed file affects."""

    path: str
    reason: str
    tests: frozenset[str]

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def changed_files(base: str | None) -> tuple[str, list[str]]:
    """Return the commit to compare with, and the files that differ from it or are untracked."""
    known = [base] if base else ["origin/main", "main"]
    found = next((commit for commit in known if _git("rev-parse", "--verify", "-q", commit)), None)
    if not found:
        raise UsageError(f"there is no commit {' or '.join(known)} to compare with")
    since = _git("merge-base", "HEAD", found)[0]
    differing = _git("diff", "--name-only", "--no-renames", since)
    untracked = _git("ls-files", "--others", "--exclude-standard")
    return since, sorted({*differing, *untracked})


def touched(paths: Sequence[str], root: Path = ROOT) -> list[Touched]:
    """Return the tests that each changed file affects, in the order of the files."""
    gone = [path for path in paths if path.endswith(".py") and not (root / path).exists()]
    sources = Sources(root, gone)
    return [_touched_by(path, sources) for path in paths]


def to_run(touched: Sequence[Touched], asked: Sequence[str], root: Path = ROOT) -> list[str]:
    """Return the arguments for pytest: test modules, or a tier if all its modules are affected."""
    tests = {test for one in touched for test in one.tests if (root / test).exists()}
    chosen = []
    for tier, paths in tests_by_tier(tests).items():
        if tier not in SLOW or tier in asked:
            every = len(paths) == len([*(root / "tests" / tier).rglob("test_*.py")])
            chosen += [f"tests/{tier}"] if every else paths
    return chosen


def left_out(touched: Sequence[Touched], asked: Sequence[str]) -> list[str]:
    """Return the slow tiers that are affected and not selected."""
    tiers = tests_by_tier({test for one in touched for test in one.tests})
    deployed = {"e2e", "chaos"} if any(one.path.startswith(_DEPLOYED) for one in touched) else set()
    return [tier for tier in SLOW if tier in {*tiers, *deployed} and tier not in asked]


def _touched_by(path: str, sources: Sources) -> Touched:
    every = frozenset(sources.tests)
    if path in _OF_EVERY_TEST:
        return Touched(path, "unit, property, integration", _of_tiers(every, _QUICK))
    if PurePath(path).match("*/schema/*"):
        return Touched(path, "property, integration", _of_tiers(every, _WITH_DATABASE))
    if path.endswith(".py"):
        tests = every & sources.reaching(path)
        if path in tests:
            return Touched(path, "is a test", tests)
        return Touched(path, _counted("imported by", tests), tests)
    readers = sources.saying(path)
    tests = every & {test for reader in readers for test in sources.reaching(reader)}
    return Touched(path, _counted("named by", tests), tests)


def _of_tiers(tests: frozenset[str], tiers: Sequence[str]) -> frozenset[str]:
    return frozenset(test for test in tests if test.split("/")[1] in tiers)


def _counted(verb: str, tests: frozenset[str]) -> str:
    tiers = tests_by_tier(tests)
    counts = ", ".join(f"{len(paths)} {tier}" for tier, paths in tiers.items())
    return f"{verb} test files: {counts}" if tests else f"{verb} no test"


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() if done.returncode == 0 else []
