"""Parses `.rec` recordings with an external program, which reads the file and writes a CSV."""

import csv
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import batched
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from batches.features import Features
from batches.parsing.codes import severity, slug
from batches.parsing.interface import LogFile, Rejected, Sink
from batches.parsing.journal import Journal

SETTING = "SKALD_REC_PARSER"
_TIMEOUT_SECONDS = 900.0
_REQUIRED = ("timestamp", "level", "code", "message")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
_ROWS_AT_ONCE = 5_000
_REASON_LIMIT = 200


def configured_command() -> Sequence[str]:
    """Return the program and its options from the environment; empty if it is not set."""
    return shlex.split(os.environ.get(SETTING, ""))


class ExternalParser:
    """Runs `command INPUT OUTPUT` without a shell, and reads the CSV that it writes.

    The CSV has the columns timestamp (seconds, or ISO 8601), level, code and message, in any
    order. If it has others, `recording.csv` contains all columns. The program does not get the
    environment variables of this service, except for a few general ones such as `PATH`.
    """

    name = "rec"

    def __init__(
        self,
        command: Callable[[], Sequence[str]] = configured_command,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> None:
        self._command = command
        self._timeout = timeout

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002 - only its program knows
        """Return whether the file name ends in `.rec`."""
        return name.lower().endswith(".rec")

    def parse(self, source: LogFile, sink: Sink, databases: Mapping[str, str]) -> Features:  # noqa: ARG002
        """Write `events.csv`, and `recording.csv` if the program's CSV has more columns.

        Raises `Rejected` if no program is configured, if it fails, if it takes longer than the
        timeout (seconds), or if its CSV is bad.
        """
        command = self._command()
        if not command:
            raise Rejected(f"no parser for .rec files is configured: set {SETTING}")
        with source.path() as path, TemporaryDirectory(prefix="skald-") as directory:
            output = Path(directory) / "events.csv"
            self._run([*command, str(path), str(output)], Path(directory))
            if not output.is_file():
                raise Rejected("the .rec parser succeeded but wrote no CSV")
            with output.open(encoding="utf-8", errors="replace", newline="") as stream:
                try:
                    return _read(csv.DictReader(stream), sink)
                except csv.Error as error:
                    raise Rejected(f"the .rec parser wrote a bad CSV: {error}") from error

    def _run(self, command: Sequence[str], directory: Path) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        stderr_file = directory / "stderr"
        with stderr_file.open("wb") as stderr:
            try:
                done = subprocess.run(  # noqa: S603 - the command is our operator's, no shell is used
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    timeout=self._timeout,
                    env=environment,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise Rejected(f"the .rec parser took longer than {self._timeout:g} s") from None
            except OSError as error:
                raise Rejected(f"the .rec parser cannot be started: {error.strerror}") from error
        if done.returncode:
            reason = _last_line(stderr_file)
            raise Rejected(f"the .rec parser ended with exit code {done.returncode}{reason}")


def _last_line(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4 * _REASON_LIMIT))
        lines = stream.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last[:_REASON_LIMIT]}" if last else ""


def _read(rows: "csv.DictReader[str]", sink: Sink) -> Features:
    columns = list(rows.fieldnames or ())
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise Rejected(f"the CSV of the .rec parser lacks the columns {', '.join(missing)}")
    journal = Journal(sink, ExternalParser.name)
    extra = [name for name in columns if name and name not in _REQUIRED]
    own = sink.table("recording", ("line", *columns)) if extra else None
    total = 0
    for chunk in batched(_numbered(rows), _ROWS_AT_ONCE, strict=False):
        for number, row in chunk:
            _record(journal, number, row)
        if own:
            own.write_all((number, *(row.get(name) for name in columns)) for number, row in chunk)
        total += len(chunk)
    return journal.finish(rows=total, columns=columns)


def _numbered(rows: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str | None]]]:
    yield from enumerate(rows, 1)


def _record(journal: Journal, number: int, row: dict[str, str | None]) -> None:
    message = row["message"] or ""
    level = severity((row["level"] or "").strip()) or "info"
    code = (row["code"] or "").strip()
    if not code and level in ("critical", "error", "warning"):
        code = slug(message)
    journal.event(number, _seconds(row["timestamp"] or ""), level, code, message)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return _iso_seconds(text)
    return seconds if isfinite(seconds) else None


def _iso_seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
