"""Binding: queries with psycopg's placeholders become statements for libpq."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from psycopg import ProgrammingError
from psycopg.abc import Transformer
from psycopg.adapt import PyFormat

from skald.postgres.interface import Parameters, Statement

_PLACEHOLDER = re.compile(r"%(?:\((\w+)\))?(.)", re.DOTALL)
_FORMATS = {"s": PyFormat.AUTO, "b": PyFormat.BINARY, "t": PyFormat.TEXT}


def bind(transformer: Transformer, query: str, parameters: Parameters) -> Statement:
    """Bind a query and its values; raises `ProgrammingError` if they do not fit."""
    parsed = _parsed(query)
    values = transformer.dump_sequence(parsed.in_order(parameters), parsed.formats)
    return Statement(parsed.text, transformer.types or (), values, transformer.formats)


class _Parsed(NamedTuple):
    """A query with PostgreSQL's placeholders, and name and format of each."""

    text: bytes
    names: tuple[str, ...]
    formats: Sequence[PyFormat]

    def in_order(self, parameters: Parameters) -> Sequence[Any]:
        if isinstance(parameters, Mapping):
            try:
                return [parameters[name] for name in self.names]
            except KeyError as missing:
                raise ProgrammingError(f"no value for {missing}") from None
        if len(parameters) != len(self.names):
            raise ProgrammingError(f"{len(self.names)} placeholders, {len(parameters)} values")
        return parameters


@lru_cache(maxsize=1_000)
def _parsed(query: str) -> _Parsed:
    """Number the placeholders of a query; a name has one number, wherever it occurs."""
    formats: dict[str, PyFormat] = {}

    def number(found: re.Match[str]) -> str:
        name, kind = found.groups()
        if found[0] == "%%":
            return "%"
        if kind not in _FORMATS:
            raise ProgrammingError(f"{found[0]!r} is no placeholder; a percent sign is %%")
        name = name or f"%{len(formats)}"
        formats.setdefault(name, _FORMATS[kind])
        return f"${list(formats).index(name) + 1}"

    text = _PLACEHOLDER.sub(number, query)
    return _Parsed(text.encode(), tuple(formats), list(formats.values()))
