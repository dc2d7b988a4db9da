"""Reads entries of the knowledge base from files: CSV with a header, or JSON lines."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from skald.knowledge.entries import NewEntry

CODES_APART = ";"


class Unreadable(Exception):
    """The files contain errors; the arguments are all of them, each as `file:line: reason`."""


def read(paths: Sequence[Path]) -> list[NewEntry]:
    """Return the entries of all files; raises `Unreadable` with all errors of all files."""
    entries: list[NewEntry] = []
    faults: list[str] = []
    for path in paths:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                lines = _csv(file) if path.suffix.lower() == ".csv" else _json_lines(file)
                for number, line in lines:
                    try:
                        entries.append(_entry(line))
                    except ValidationError as error:
                        faults += [f"{path}:{number}: {why}" for why in _reasons(error)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise Unreadable(*faults)
    return entries


def _csv(file: TextIO) -> Iterator[tuple[int, object]]:
    """Yield the rows as mappings by the header's names; an empty cell is a missing field."""
    reader = csv.DictReader(file, restkey="cells beyond the header", strict=True)
    for row in reader:
        given: dict[str, object] = {name: cell for name, cell in row.items() if cell}
        if isinstance(codes := given.get("error_codes"), str):
            given["error_codes"] = [code.strip() for code in codes.split(CODES_APART)]
        yield reader.line_num, given


def _json_lines(file: TextIO) -> Iterator[tuple[int, object]]:
    return ((number, line) for number, line in enumerate(file, 1) if line.strip())


def _entry(line: object) -> NewEntry:
    # A misspelt field must be an error; it must not look like a missing optional field.
    if isinstance(line, str):
        return NewEntry.model_validate_json(line, extra="forbid")
    return NewEntry.model_validate(line, extra="forbid")


def _reasons(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        where = ".".join(map(str, fault["loc"]))
        yield f"{where}: {fault['msg']}" if where else fault["msg"]
