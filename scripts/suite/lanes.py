"""Runs the tiers in two parallel pytest processes, and prints one closing line for both."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from suite.request import ROOT

# Tests of the first lane start their own PostgreSQL and Valkey. Tests of the second lane start
# whole platforms, wait for them much of the time, and share one deployment. So the two lanes use
# two cores and share no server.
LANES = (("unit", "property", "integration"), ("platform", "e2e", "chaos"))

_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)\b")
_LAST_LINE = re.compile(
    r"^=* ?(\d+ [a-z]+(?:, \d+ [a-z ]+)*|no tests ran) in [\d.]+s", re.MULTILINE
)
_TROUBLE = re.compile(r"^(?:FAILED|ERROR) tests/.*$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """The output and the exit code of one pytest process."""

    lane: str
    exit_code: int
    output: str

    def count(self, outcome: str) -> int:
        """Return how many tests had this outcome; `error` counts tests whose fixtures failed."""
        lines = _LAST_LINE.findall(self.output)
        counts = _COUNT.findall(lines[-1] if lines else "")
        return sum(int(number) for number, name in counts if name.removesuffix("s") == outcome)

    @property
    def failed(self) -> int:
        """The number of failures; at least one if the exit code is not 0."""
        return max(self.count("failed") + self.count("error"), int(self.exit_code != 0))

    @property
    def troubles(self) -> list[str]:
        """The failures in pytest's summary, or the exit code if the summary names none."""
        named = _TROUBLE.findall(self.output)
        if self.exit_code and not named:
            named = [f"ERROR {self.lane}: pytest ended with exit code {self.exit_code}"]
        return named


def lanes_of(tests: Sequence[str]) -> list[list[str]]:
    """Return the tests of each lane; a selection that is not only tiers stays in one lane."""
    lanes = [[f"tests/{tier}" for tier in tiers] for tiers in LANES]
    if not tests:
        return lanes
    if not set(tests) <= {tier for lane in lanes for tier in lane}:
        return [list(tests)]
    shared = [[tier for tier in lane if tier in tests] for lane in lanes]
    return [lane for lane in shared if lane]


def run(lanes: Sequence[Sequence[str]]) -> int:
    """Run the lanes in parallel, print their outputs in turn, and return the exit code."""
    began = time.monotonic()
    with (
        _ending_in_good_order(),
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        running = [
            stack.enter_context(_started(lane, Path(folder) / f"{number}.log"))
            for number, lane in enumerate(lanes)
        ]
        results = [lane.shown() for lane in running]
    return conclude(results, time.monotonic() - began)


def conclude(results: Sequence[Result], seconds: float) -> int:
    """Print the failures and the closing line; return the exit code of all lanes."""
    for trouble in (trouble for result in results for trouble in result.troubles):
        _write(f"{trouble}\n")
    passed, skipped = (
        sum(result.count(outcome) for result in results) for outcome in ("passed", "skipped")
    )
    failed = sum(result.failed for result in results)
    _write(f"{len(results)} processes, {seconds / 60:.1f} min\n")
    _write(f"{passed} passed, {failed} failed" + f", {skipped} skipped" * bool(skipped))
    _write("\n")
    # pytest exits with 5 if it found no test; this is a failure, as nothing was tested.
    return int(any(result.exit_code for result in results))


@dataclass
class _Lane:
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    output: list[str] = field(default_factory=list)

    def shown(self) -> Result:
        """Copy the output to the terminal until the process ends."""
        _write(f"{self.name}\n")
        for text in _followed(self.log, self.process):
            self.output.append(text)
            _write(text)
        return Result(self.name, self.process.wait(), "".join(self.output))


@contextmanager
def _started(tests: Sequence[str], log: Path) -> Iterator[_Lane]:
    command = [sys.executable, "-u", "-m", "pytest", *tests]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C reaches only this process, which passes it on once
        )
    try:
        yield _Lane(" ".join(tests), process, log)
    finally:
        # pytest stops its servers on this signal, as on Ctrl-C.
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait()


def _followed(log: Path, process: subprocess.Popen[bytes]) -> Iterator[str]:
    with log.open(encoding="utf-8", errors="replace") as stream:
        while True:
            ended = process.poll() is not None  # checked before the last read of the log
            text = stream.read()
            if text:
                yield text
            elif ended:
                return
            else:
                time.sleep(0.1)


@contextmanager
def _ending_in_good_order() -> Iterator[None]:
    """Handle all signals to end like Ctrl-C, so that the lanes are stopped and waited for.

    A shell makes background processes ignore Ctrl-C, and the lanes would inherit that. A signal
    that has a handler here has its default action in them.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
