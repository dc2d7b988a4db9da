"""Reads the arguments of `scripts/test`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIERS = ("unit", "property", "integration", "platform", "e2e", "chaos")
USAGE = """\
usage: scripts/test                                     the checks, then every test
       scripts/test PATH[::NAME]... [PYTEST-OPTION...]  only these tests, without the checks
       scripts/test TIER... [PYTEST-OPTION...]          these tiers
       scripts/test --changed [BASE] [TIER...]          the tests of files that differ from BASE

A path is relative to the current folder, to the checkout or to tests/:

  scripts/test unit/kernel/test_errors.py
  scripts/test integration/test_outbox.py::test_the_lease_stays_on_its_index --pdb
  scripts/test integration -k barrier -x

With --changed, ruff and mypy run first, then the tests that import or name a changed file. BASE is
origin/main by default. The tiers platform, e2e and chaos take minutes: they run only if TIER names
them, and are listed otherwise.

Tiers:
  lint         ruff, mypy, import rules, sam validate, cfn-lint
  unit         no server at all
  property     the correctness properties, 100 examples each, on real PostgreSQL and Valkey
  integration  real PostgreSQL and Valkey
  platform     the local platform itself: the stack and the Lambda executor
  e2e          the deployed template on LocalStack, as a client sees it
  chaos        the same, with crashes, lost Redis, redelivered messages

Without an option, tiers run in two processes. The first option and all words after it go to pytest;
a `--` before it is allowed. Tests start the servers that they need on free ports and stop them.
They do not use a running scripts/stack.
"""


class UsageError(Exception):
    """An argument is neither a tier nor the path of a test."""


@dataclass(frozen=True)
class Request:
    """A request to run. `tests` and `options` go to pytest; without tests, every tier runs."""

    lint: bool = False
    tests: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    paths_in_options: bool = False
    changed: bool = False
    base: str | None = None

    @property
    def everything(self) -> bool:
        """Whether the arguments select nothing, so everything runs."""
        return not (self.lint or self.tests or self.paths_in_options or self.changed)


def read(words: Sequence[str], here: Path) -> Request:
    """Read the arguments of a call from the folder `here`; raises UsageError."""
    if words[:1] == ["--changed"]:
        base = next((word for word in words[1:2] if word not in TIERS and word[0] != "-"), None)
        rest = read(words[2 if base else 1 :], here)
        return replace(rest, changed=True, base=base)
    options_begin = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    selected, options = words[:options_begin], list(words[options_begin:])
    if options[:1] == ["--"]:
        del options[0]
    lint = "lint" in selected
    tests = [_selection(word, here) for word in selected if word != "lint"]
    # A path may follow an option, as with pytest.
    named = [_found(word, here) if _looks_like_path(word) else None for word in options]
    options = [path or word for word, path in zip(options, named, strict=True)]
    return Request(lint, tuple(tests), tuple(options), paths_in_options=any(named))


def _selection(word: str, here: Path) -> str:
    if word in TIERS:
        return f"tests/{word}"
    found = _found(word, here)
    if not found:
        raise UsageError(f"{word} is neither a tier nor a path below tests/")
    return found


def _looks_like_path(word: str) -> bool:
    return not word.startswith("-") and ("/" in word or ".py" in word)


def _found(word: str, here: Path) -> str | None:
    """Return the test as an argument for pytest at the root, None if there is no such file."""
    path, separator, name = word.partition("::")
    for folder in (here, ROOT, ROOT / "tests"):
        candidate = (folder / path).resolve()
        is_test = candidate.is_dir() or (candidate.suffix == ".py" and candidate.exists())
        if is_test and candidate.is_relative_to(ROOT / "tests"):
            return f"{candidate.relative_to(ROOT)}{separator}{name}"
    return None
