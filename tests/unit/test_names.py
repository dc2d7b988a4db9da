"""Names: within one context and the kernel, no two classes or type aliases share a name."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNEL = ROOT / "layers/core/skald"
CONTEXTS = sorted(path.parent for path in (ROOT / "functions").glob("*/__init__.py"))


def defined(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the classes and type aliases of a folder, each with its file."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield node.name, str(path.relative_to(ROOT))
            elif isinstance(node, ast.TypeAlias):
                yield node.name.id, str(path.relative_to(ROOT))


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda path: path.name)
def test_a_reader_meets_one_class_of_a_name(context: Path) -> None:
    """Names: a request passes a context and the kernel, and meets no two classes of one name."""
    files = defaultdict(list)
    for name, file in [*defined(KERNEL), *defined(context)]:
        files[name].append(file)
    assert {name: places for name, places in files.items() if len(places) > 1} == {}
