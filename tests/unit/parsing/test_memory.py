"""V-04: the parsers of streams need limited memory for files of any size and shape."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from tests.cold_start import modules_after

from batches.parsing import CsvSink
from batches.parsing.templates import Templates

ROOT = Path(__file__).resolve().parents[3]
PEAK_LIMIT = 256


@pytest.mark.parametrize("kind", ["text", "candump"])
def test_streams_fit_in_memory(kind: str) -> None:
    """V-04: the peak of a stream is far below 256 MB; `scripts/parse-speed` measures a whole GB.

    20 MB are enough to find a leak: a parser that keeps each line would need 60 MB or more.
    """
    command = ["scripts/parse_speed.py", "--json", "--formats", kind, "--gigabytes", "0.02"]
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    figures = json.loads(done.stdout)
    assert figures["megabytes"] == 20
    assert figures["peak_rss_megabytes"] < PEAK_LIMIT / 2


def test_nothing_repeats() -> None:
    """V-04: a log in which all lines differ fills neither the templates nor the caches."""
    templates = Templates()
    letters = "abcdefghijklmnop"
    for number in range(4_000):
        word = "".join(letters[int(digit, 16)] for digit in f"{number * 2_654_435_761:x}")
        templates.shape(f"{word} {word[::-1]} {word[2:]}{word}")
    assert len(templates) <= 3_001


def test_cold_start() -> None:
    """V-04: a library that only some formats need is loaded with their first file."""
    heavy = {"numpy", "can", "cantools", "pyulog", "drain3", "smart_open", "boto3"}
    assert modules_after("import batches.parsing").isdisjoint(heavy)


def test_tables_close_when_done() -> None:
    """V-04: a flight with many topics has only a few tables open at a time."""
    opened: list[StringIO] = []

    def open_csv(_name: str) -> StringIO:
        opened.append(StringIO())
        return opened[-1]

    with CsvSink(open_csv) as sink:
        for number in range(3):
            sink.table(f"t{number}", ("a",)).close()
            assert sum(not stream.closed for stream in opened) == 0
