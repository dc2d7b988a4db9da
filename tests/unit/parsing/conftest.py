"""Fixtures for the parser tests: parsing into a folder, and real recordings."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.unit.parsing.samples import BytesSource

from batches.features import Features
from batches.parsing import LocalSink, LocalSource, parse
from batches.parsing.interface import LogFile

LIMIT = 64 * 1024 * 1024

type Rows = list[dict[str, str]]
type Parse = Callable[..., Features]


class Tables:
    """The CSV files that a parse wrote."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __getitem__(self, name: str) -> Rows:
        with (self.directory / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    @property
    def names(self) -> set[str]:
        return {path.stem for path in self.directory.glob("*.csv")}


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path / "tables")


@pytest.fixture
def parsed(tmp_path: Path, tables: Tables) -> Parse:
    """Parse bytes under a name, or a source. The tables are in `tables`."""

    def run(
        data: bytes | LogFile,
        name: str = "file.log",
        databases: Mapping[str, str] | None = None,
        max_bytes: int = LIMIT,
    ) -> Features:
        source = BytesSource(data, name, tmp_path) if isinstance(data, bytes) else data
        with LocalSink(tables.directory) as sink:
            return parse(source, sink, databases or {}, max_bytes=max_bytes)

    return run


@pytest.fixture
def data(real_data: Path) -> Path:
    """The recordings and logs among the real data."""
    return real_data / "vehicle"


@pytest.fixture
def parsed_file(parsed: Parse) -> Parse:
    """Parse a file of the real data."""

    def run(path: Path, databases: Mapping[str, str] | None = None) -> Features:
        return parsed(LocalSource(path), databases=databases)

    return run
