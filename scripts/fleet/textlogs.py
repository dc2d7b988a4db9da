"""Writes text logs of the OTA agent and other daemons, in formats that real daemons use."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fleet.catalogue import Fault, Line
from fleet.truth import FileTruth

LINES = 4200
NIGHT_SECONDS = 5400.0

# Healthy logs contain many words of failure; they must not mislead the diagnosis.
_CHATTER: dict[str, tuple[tuple[str, str], ...]] = {
    "INFO": (
        ("ota-agent", "chunk {n} of 412 verified, sha256 ok"),
        ("ota-agent", "campaign C-2291 poll: nothing new"),
        ("ota-agent", "rollback slot A is healthy and ready"),
        ("supervisor", "watchdog fed by {n} tasks"),
        ("power", "battery 12.{n} V, above the update limit of 11.5 V"),
        ("navd", "GNSS fix with {n} satellites, hdop 0.9"),
        ("logd", "rotated telemetry.{n}, 0 errors, 0 dropped"),
        ("canmgr", "can0 up at 500 kbit/s, bus load {n} percent"),
        ("thermal", "coolant 8{n} degC, fan at 30 percent"),
        ("mapd", "tile cache holds {n} MB"),
    ),
    "DEBUG": (
        ("ota-agent", "lease renewed until +{n} s"),
        ("logd", "flushed {n} records"),
    ),
    "WARN": (
        ("ota-agent", "chunk {n} slow, 812 ms"),
        ("ota-agent", "retry {n} of 5 for chunk download"),
        ("modem", "weak signal -10{n} dBm"),
        ("navd", "clock drift {n} ms corrected"),
        ("mapd", "config key tile.ttl is deprecated"),
    ),
}
LONE_ERROR = Line("ERROR", "modem", "E4102", "CONNECTION_TIMEOUT to broker, will retry", 1)

type Entry = tuple[float, str, str, str]
"""Seconds since the start of the night, level, process, text."""


@dataclass
class _Log:
    entries: list[Entry]
    codes: Counter[str]


FORMATS = (
    ("iso", "{date}T{time}.{millis:03d}Z {level:<5} {process}: {text}"),
    ("syslog", "{month} {day:2d} {time} {vehicle} {process}[412]: {level}: {text}"),
    ("bracketed", "[{date} {time}.{millis:03d}] [{lower}] [{process}] {text}"),
)
"""Name and line template of each format."""


def _render(template: str, vehicle: str, start: float, entry: Entry) -> str:
    at, level, process, text = entry
    moment = datetime.fromtimestamp(start + at, UTC)
    return template.format(
        date=f"{moment:%Y-%m-%d}",
        month=f"{moment:%b}",
        day=moment.day,
        time=f"{moment:%H:%M:%S}",
        millis=moment.microsecond // 1000,
        vehicle=vehicle,
        level=level,
        lower=level.lower(),
        process=process,
        text=text,
    )


def write_text_log(
    path: Path,
    vehicle: str,
    style: tuple[str, str],
    start: float,
    faults: Iterable[Fault],
    strays: Iterable[Line],
    rng: np.random.Generator,
    *,
    chatter: int = LINES,
) -> FileTruth:
    """Write the log of one vehicle's night, and return what it contains.

    `strays` are error lines without a fault; `chatter` is the number of normal lines.
    """
    log = _generate(faults, strays, chatter, rng)
    name, template = style
    lines = [_render(template, vehicle, start, entry) for entry in log.entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    levels = Counter(entry[1] for entry in log.entries)
    return FileTruth(
        name=path.name,
        kind="text",
        format=name,
        vehicle=vehicle,
        lines=len(lines),
        errors=levels["ERROR"] + levels["FATAL"],
        warnings=levels["WARN"],
        codes=dict(log.codes.most_common()),
        size_bytes=path.stat().st_size,
    )


def _generate(
    faults: Iterable[Fault], strays: Iterable[Line], chatter: int, rng: np.random.Generator
) -> _Log:
    log = _Log([], Counter())
    _add_chatter(log, chatter, rng)
    for line in strays:
        moments = rng.uniform(0, NIGHT_SECONDS, line.times).tolist()
        _add(log, line, moments, [int(at) % 8 + 1 for at in moments])
    for line in (line for fault in faults for line in fault.lines):
        # Faults occur in three intervals, as in the CAN recording, and not evenly.
        spell = rng.choice((0.32, 0.50, 0.68), line.times)
        spread = NIGHT_SECONDS * (spell + rng.uniform(0.0, 0.05, line.times))
        _add(log, line, spread.tolist(), rng.integers(1, 9, line.times).tolist())
    log.entries.sort()
    return log


def _add(log: _Log, line: Line, moments: Sequence[float], digits: Sequence[int]) -> None:
    for at, digit in zip(moments, digits, strict=True):
        text = f"{line.code} {line.text.format(n=digit)}".lstrip()
        log.entries.append((at, line.level, line.process, text))
    if line.code:
        log.codes[line.code] += line.times


def _add_chatter(log: _Log, lines: int, rng: np.random.Generator) -> None:
    moments = np.sort(rng.uniform(0.0, NIGHT_SECONDS, lines)).tolist()
    dice = rng.uniform(0.0, 1.0, lines).tolist()
    picks = rng.integers(0, 10**6, lines).tolist()
    for at, die, pick in zip(moments, dice, picks, strict=True):
        level = "WARN" if die > 0.97 else "DEBUG" if die > 0.80 else "INFO"
        pool = _CHATTER[level]
        process, text = pool[pick % len(pool)]
        log.entries.append((at, level, process, text.format(n=pick % 7 + 2)))
