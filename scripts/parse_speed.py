"""Measure the speed and the memory of the reader of each log format.

It prints megabytes of input per second and the peak resident memory in megabytes. Each format runs
in its own process. Without files, it measures generated ones. `--gigabytes` sets the size of the
formats that stream (text and candump); the others have a tenth of it, at most 20 MB. Tables are
formatted and discarded.
"""

import argparse
import io
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, BinaryIO, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "functions"), str(ROOT / "layers" / "core"), str(ROOT)]

from batches.parsing import CsvSink, LocalSource, parse  # noqa: E402
from batches.parsing.interface import LogFile  # noqa: E402

STREAMED = ("text", "candump")
WRITTEN = ("asc", "blf", "trc", "ulg")
_SCALE = 1_000_000


class _Generated(io.RawIOBase):
    """A file of a given size that exists only while it is read."""

    def __init__(self, block: Callable[[int], bytes], size: int) -> None:
        self._blocks = map(block, itertools.count())
        self._left = size
        self._buffer = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        if not self._buffer and self._left > 0:
            self._buffer = next(self._blocks)
            self._left -= len(self._buffer)
        data, self._buffer = self._buffer[: len(target)], self._buffer[len(target) :]
        target[: len(data)] = data
        return len(data)


class GeneratedSource:
    """Streams generated text; it does not exist as a file."""

    def __init__(self, kind: str, size: int) -> None:
        self.name = f"generated-{kind}.log"
        self.size = size
        self._block = _text_block if kind == "text" else _candump_block

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        yield cast(BinaryIO, io.BufferedReader(_Generated(self._block, self.size)))

    @contextmanager
    def path(self) -> Iterator[Path]:
        with TemporaryDirectory() as directory:
            yield Path(directory)  # streaming parsers do not use the path


def _text_block(number: int) -> bytes:
    lines = []
    for index in range(2_000):
        line = number * 2_000 + index
        level = "ERROR" if line % 50 == 0 else "WARN" if line % 20 == 0 else "INFO"
        at = f"2024-03-{1 + line // 86_400_000 % 28:02d} {line // 3_600_000 % 24:02d}"
        at += f":{line // 60_000 % 60:02d}:{line // 1_000 % 60:02d},{line % 1_000:03d}"
        text = f"request {line} of client 10.0.{line % 200}.{line % 250} took {line * 7 % 900} ms"
        lines.append(f"{at} {level} [worker-{line % 8}] com.example.Service{line % 40}: {text}\n")
    return "".join(lines).encode()


def _candump_block(number: int) -> bytes:
    lines = []
    for index in range(5_000):
        line = number * 5_000 + index
        data = (line * 2_654_435_761 % 2**64).to_bytes(8).hex().upper()
        lines.append(f"({1_700_000_000 + line / 4_000:.6f}) can0 {256 + line % 150:03X}#{data}\n")
    return "".join(lines).encode()


def _written(kind: str, size: int, directory: Path) -> Path:
    from tests.unit.parsing import samples

    path = directory / f"generated.{kind}"
    if kind == "ulg":
        path.write_bytes(samples.ulog(rows=size // 46))
    else:
        samples.can_file(path, samples.frames(size // 50, period=0.001))
    return path


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def measure(source: LogFile) -> dict[str, Any]:
    """Parse a source in this process and return its figures."""
    start = time.perf_counter()
    with CsvSink(lambda _name: cast(IO[str], _Nowhere())) as sink:
        features = parse(source, sink, {}, max_bytes=1 << 50)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": source.name,
        "format": features.format,
        "megabytes": round(source.size / _SCALE, 3),
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(source.size / _SCALE / seconds, 2),
        "events": features.total_events,
        "peak_rss_megabytes": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1),
    }


def _measure_one(what: str, size: int) -> dict[str, Any]:
    if what in STREAMED:
        return measure(GeneratedSource(what, size))
    if what not in WRITTEN:
        return measure(LocalSource(Path(what)))
    with TemporaryDirectory() as directory:
        script = [sys.executable, __file__, "--write", what, "--bytes", str(size), directory]
        subprocess.run(script, check=True)  # in this process, it would count as parser memory
        return measure(LocalSource(Path(directory) / f"generated.{what}"))


def _measure_apart(what: str, size: int) -> dict[str, Any]:
    script = [sys.executable, __file__, "--one", what, "--bytes", str(size)]
    done = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True)
    return cast(dict[str, Any], json.loads(done.stdout))


def main() -> None:
    """Measure files or generated logs, and print a table."""
    options = argparse.ArgumentParser(
        prog="scripts/parse-speed", description=(__doc__ or "").partition("\n")[0]
    )
    options.add_argument("files", nargs="*", metavar="FILE")
    options.add_argument(
        "--gigabytes", type=float, default=0.05, help="gigabytes of generated streams"
    )
    options.add_argument(
        "--formats", default=",".join(STREAMED + WRITTEN), help="formats to generate"
    )
    options.add_argument("--json", action="store_true", help="print JSON lines")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--write", help=argparse.SUPPRESS)
    options.add_argument("--bytes", type=int, default=0, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.write:
        _written(chosen.write, chosen.bytes, Path(chosen.files[0]))
        return
    if chosen.one:
        print(json.dumps(_measure_one(chosen.one, chosen.bytes)))
        return
    if not chosen.json:
        print(f"{'file':28} {'format':8} {'MB':>8} {'MB/s':>7} {'events':>10} {'peak MB':>8}")
    whole = int(chosen.gigabytes * 1e9)
    for what in chosen.files or chosen.formats.split(","):
        found = _measure_apart(what, whole if what in STREAMED else min(whole // 10, 20 * _SCALE))
        if chosen.json:
            print(json.dumps(found), flush=True)
        else:
            print(
                f"{found['name'][:28]:28} {found['format']:8} {found['megabytes']:8.1f} "
                f"{found['megabytes_per_second']:7.1f} {found['events']:10} "
                f"{found['peak_rss_megabytes']:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
