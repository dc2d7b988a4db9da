"""Texts for people use plain words, which readers with English as a second language understand."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_documents import DOCUMENTS
from tests.unit.test_stands_alone import ROOT

from operations.api import openapi

REFUSED = (
    "whoever",
    "whatever",
    "nobody",
    "anew",
    "meanwhile",
    "thereby",
    "hence",
    "told apart",
    "in vain",
    "makes do with",
)
WORDS = re.compile(rf"\b(?:{'|'.join(REFUSED)})\b", re.IGNORECASE)
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)

POWERTOOLS = {"HTTPValidationError", "ResponseValidationError", "ValidationError"}
"""Models of Powertools; we cannot describe their fields."""

PLAIN = ("functions", "layers/core/skald", "scripts", "tests")
"""Folders whose docstrings and comments are written in plain words."""


def refused(text: str) -> list[str]:
    """Return the refused words of a text, without looking into its code."""
    return WORDS.findall(CODE.sub("", text))


def prose(file: Path) -> Iterator[str]:
    """Return the docstrings and the comments of a module or a script."""
    source = file.read_text()
    yield from re.findall(r"(?:^|\s)(#.*)$", source, re.MULTILINE)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def described(node: object) -> Iterator[str]:
    """Return every title, summary and description of the API document."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in {"title", "summary", "description"} and isinstance(value, str):
                yield value
            else:
                yield from described(value)
    elif isinstance(node, list):
        for value in node:
            yield from described(value)


def undescribed(document: Mapping[str, Any]) -> Iterator[str]:
    """Return the routes, parameters and fields that no text describes."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not operation.get("summary"):
                yield f"{method} {path}"
            for parameter in operation.get("parameters", []):
                if not {"description"} & {*parameter, *parameter["schema"]}:
                    yield f"{method} {path} {parameter['name']}"
    for name, model in document["components"]["schemas"].items():
        for field, schema in model.get("properties", {}).items():
            if name not in POWERTOOLS and "description" not in schema:
                yield f"{name}.{field}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_use_plain_words(name: str) -> None:
    """The documents are the first thing a reader sees."""
    assert refused(DOCUMENTS[name]) == []


def test_the_api_document_uses_plain_words() -> None:
    """A client reads only the API document."""
    texts = list(described(openapi()))
    assert len(texts) > 100
    assert [text for text in texts if refused(text)] == []


def test_the_api_document_describes_everything() -> None:
    """Each route, parameter and field says what it means, not only its name and type."""
    assert list(undescribed(openapi())) == []


@pytest.mark.parametrize("folder", PLAIN)
def test_code_uses_plain_words(folder: str) -> None:
    """Docstrings and comments of a rewritten folder stay plain."""
    found = {
        f"{file.relative_to(ROOT)}: {word}"
        for file in (ROOT / folder).rglob("*.py")
        for text in prose(file)
        for word in refused(text)
    }
    assert found == set()


def test_refused_words_are_found() -> None:
    """The checks above find a word in upper and lower case, and ignore names of code."""
    assert refused("Whoever waits, waits in vain.") == ["Whoever", "in vain"]
    assert refused("`test_nobody_waits` and henceforth") == []
