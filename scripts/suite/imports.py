"""Finds which modules use which. It reads the sources and imports nothing."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# Folders on the import path of the tests, inner folders first.
_FOLDERS = ("layers/core", "functions", "scripts/platform", "scripts", "")
_SOURCES = ("layers/core/skald", "functions", "scripts", "tests")
_DOTTED = re.compile(r"[a-z_]\w*(?:\.\w+)+")


def module_of(path: str) -> str:
    """Return the name by which tests import a Python file of the repository."""
    folder = next(f"{f}/" if f else "" for f in _FOLDERS if not f or path.startswith(f"{f}/"))
    return path.removeprefix(folder).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Sources:
    """The Python files of a checkout, and the modules and paths that each names."""

    def __init__(self, root: Path, gone: Iterable[str] = ()) -> None:
        paths = [path for folder in _SOURCES for path in (root / folder).rglob("*.py")]
        self._trees = {
            str(path.relative_to(root)): ast.parse(path.read_text(encoding="utf-8"))
            for path in sorted(paths)
        }
        self.modules = {module_of(path): path for path in (*gone, *self._trees)}
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        for path, tree in self._trees.items():
            for used in self._used(path, tree):
                self._users[used].add(path)

    @property
    def tests(self) -> list[str]:
        """The paths of all test modules."""
        return [path for path in self._trees if Path(path).name.startswith("test_")]

    def reaching(self, path: str) -> set[str]:
        """Return this file and the files that use it, directly or through others."""
        found, todo = {path}, [path]
        while todo:
            users = self._users[todo.pop()] - found
            found |= users
            todo += users
        return found

    def saying(self, path: str) -> set[str]:
        """Return the Python files with a text that names this file, or its folder of data."""
        folder = str(Path(path).parent)
        is_of_data = not any(Path(other).is_relative_to(folder) for other in self._trees)
        ends = [path, *([folder] if is_of_data else [])]
        return {
            user
            for user, tree in self._trees.items()
            if any(f"/{end}".endswith(f"/{text}") for text in _paths(tree) for end in ends)
        }

    def _used(self, path: str, tree: ast.Module) -> Iterator[str]:
        for name in (*_imported(path, tree), *_named(tree)):
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                if found := self.modules.get(".".join(parts[:end])):
                    yield found
        if path.startswith("tests/"):
            for folder in Path(path).parents:
                if (conftest := f"{folder}/conftest.py") in self._trees:
                    yield conftest


def _imported(path: str, tree: ast.Module) -> Iterator[str]:
    package = module_of(path).split(".")
    if not path.endswith("/__init__.py"):
        package.pop()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            parent = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{parent}.{alias.name}" for alias in node.names)


def _named(tree: ast.Module) -> Iterator[str]:
    """Yield dotted names in texts: modules that tests start, attributes that they replace."""
    for text in _texts(tree):
        yield from _DOTTED.findall(text)


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _paths(tree: ast.Module) -> Iterator[str]:
    """Yield texts that may be the end of a path; a single word counts only after a `/` operator."""
    yield from (text for text in _texts(tree) if "." in text or "/" in text)
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from _texts(node.right)


def tests_by_tier(paths: Iterable[str]) -> Mapping[str, list[str]]:
    """Group test modules by the folder of their tier."""
    tiers: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        tiers[path.split("/")[1]].append(path)
    return tiers
