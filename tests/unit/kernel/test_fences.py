"""Fences: code that stands in for a library is reached through one small interface only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from skald import postgres, telemetry

ROOT = Path(__file__).parents[3]
KERNEL = ROOT / "layers/core/skald"
SOURCES = [path for folder in (KERNEL, ROOT / "functions") for path in sorted(folder.rglob("*.py"))]

ONLY = {
    "psycopg.pq": ["postgres/*.py"],
    "psycopg.adapt": ["postgres/*.py"],
    "skald.postgres.pipeline": ["postgres/pool.py"],
    "skald.postgres.calls": ["postgres/pipeline.py"],
    "skald.postgres.statement": ["postgres/pipeline.py"],
    "skald.postgres.probe": ["postgres/pipeline.py"],
    "skald.telemetry.collecting": ["entrypoints/entry.py"],
    "aws_lambda_powertools.metrics": [],
    "aws_lambda_powertools.Metrics": [],
    "aws_lambda_powertools.single_metric": [],
    "opentelemetry": [],
}
"""The modules of the kernel that may import it. All others must not."""


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of every import of a file. An `import` has no name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def is_within(imported: str, fenced: str) -> bool:
    return imported == fenced or imported.startswith(f"{fenced}.")


def is_allowed(path: Path, patterns: list[str]) -> bool:
    return any(path in KERNEL.glob(pattern) for pattern in patterns)


@pytest.mark.parametrize(("fenced", "allowed"), ONLY.items(), ids=ONLY)
def test_only_the_fence_imports_what_it_hides(fenced: str, allowed: list[str]) -> None:
    """Fences: a stand-in for a library can be replaced in one place."""
    users = {
        path.relative_to(ROOT)
        for path in SOURCES
        for module, name in imports(path)
        if is_within(f"{module}.{name}".rstrip("."), fenced) and not is_allowed(path, allowed)
    }
    assert users == set()


@pytest.mark.parametrize("package", [postgres, telemetry], ids=lambda package: package.__name__)
def test_a_package_is_used_by_the_names_it_offers(package: object) -> None:
    """Fences: other packages import only names that these two packages offer."""
    name, offered = vars(package)["__name__"], vars(package)["__all__"]
    own = KERNEL / name.rpartition(".")[2]
    past = {
        (str(path.relative_to(ROOT)), module, imported)
        for path in SOURCES
        if not path.is_relative_to(own)
        for module, imported in imports(path)
        if is_within(module, name) and (module != name or imported not in offered)
    }
    assert past == set()
