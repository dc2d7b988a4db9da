"""The small interface behind which every log format hides."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from batches.features import Features

type Cell = str | int | float | None


class Rejected(Exception):
    """The file cannot be parsed; the message is the reason its owner reads in the report."""


class Source(Protocol):
    """A file to parse, wherever it lies."""

    name: str
    size: int

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Stream the bytes from the beginning; may be called again."""
        ...

    def path(self) -> AbstractContextManager[Path]:
        """Have the whole file on local disk, for formats that need to seek."""
        ...


class Table(Protocol):
    """One CSV in the making."""

    def write(self, row: Sequence[Cell]) -> None: ...

    def write_all(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Write many rows at a fraction of the cost of writing each."""
        ...

    def close(self) -> None:
        """Say that no row follows, so that its memory can be freed before the sink closes."""
        ...


class Sink(Protocol):
    """Where a parser's CSVs go; tables are closed with the sink."""

    def table(self, name: str, columns: Sequence[str]) -> Table:
        """Start (or return the already started) CSV `<name>.csv` with these columns."""
        ...


class Parser(Protocol):
    """Turns one format into CSV tables and features."""

    name: str

    def recognises(self, head: bytes, name: str) -> bool:
        """Say from the first 64 KiB, and only then from the file name, whether this is mine."""
        ...

    def parse(self, source: Source, sink: Sink, databases: Mapping[str, str]) -> Features:
        """Write the tables and return the features.

        `databases` maps the names of the batch's DBC files to their text.
        Raises `Rejected` when the content is not what it claims to be or is cut off.
        """
        ...
