"""The interfaces between the parsers, the files they read and the tables they write."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from batches.features import Features

type Cell = str | int | float | None


class Rejected(Exception):
    """The file cannot be parsed; the message is the reason that its owner reads in the report."""


class LogFile(Protocol):
    """A file to parse, on disk or in S3; `size` is in bytes."""

    name: str
    size: int

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Stream the bytes from the beginning; it can be called more than once."""
        ...

    def path(self) -> AbstractContextManager[Path]:
        """Provide the whole file on local disk, for formats that need to seek."""
        ...


class Table(Protocol):
    """One CSV table that is being written."""

    def write(self, row: Sequence[Cell]) -> None: ...

    def write_all(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Write many rows; this is much faster than one call per row."""
        ...

    def close(self) -> None:
        """Finish the table; its memory is freed before the sink is closed."""
        ...


class Sink(Protocol):
    """The destination of a parser's CSV tables; closing it closes all tables."""

    def table(self, name: str, columns: Sequence[str]) -> Table:
        """Return the table `<name>.csv` with these columns; the first call starts it."""
        ...


class Parser(Protocol):
    """Turns one format into CSV tables and features."""

    name: str

    def recognises(self, head: bytes, name: str) -> bool:
        """Return whether this parser reads the file.

        `head` is the first 64 KiB of the file; it counts more than the file name.
        """
        ...

    def parse(self, source: LogFile, sink: Sink, databases: Mapping[str, str]) -> Features:
        """Write the tables and return the features.

        `databases` maps the names of the batch's DBC files to their text.
        Raises `Rejected` if the content does not have this format or is truncated.
        """
        ...
