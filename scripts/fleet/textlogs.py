"""Text logs of the OTA agent and its neighbours, in the formats such daemons really use."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fleet.catalogue import Fault
from fleet.truth import FileTruth

LINES = 4200
NIGHT_SECONDS = 5400.0

# Healthy logs are full of the words of failure; a diagnosis must not fall for them.
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
_LONE_ERROR = ("modem", "E4102", "CONNECTION_TIMEOUT to broker, will retry")

type Entry = tuple[float, str, str, str]
"""Seconds into the night, level, process, text."""


@dataclass
class _Story:
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
    fault: Fault | None,
    lone_error: bool,
    rng: np.random.Generator,
) -> FileTruth:
    """Write one night of one vehicle and return what was put into it."""
    story = _tell(fault, lone_error, rng)
    name, template = style
    lines = [_render(template, vehicle, start, entry) for entry in story.entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    levels = Counter(entry[1] for entry in story.entries)
    return FileTruth(
        name=path.name,
        kind="text",
        format=name,
        vehicle=vehicle,
        lines=len(lines),
        errors=levels["ERROR"] + levels["FATAL"],
        warnings=levels["WARN"],
        codes=dict(story.codes.most_common()),
        size_bytes=path.stat().st_size,
    )


def _tell(fault: Fault | None, lone_error: bool, rng: np.random.Generator) -> _Story:
    story = _Story([], Counter())
    _add_chatter(story, rng)
    if lone_error:
        process, code, text = _LONE_ERROR
        _add(story, float(rng.uniform(0, NIGHT_SECONDS)), "ERROR", process, code, text)
    for line in fault.lines if fault else ():
        # Faults come in spells, not evenly: three of them, as on the CAN side.
        spell = rng.choice((0.32, 0.50, 0.68), line.times)
        moments = NIGHT_SECONDS * (spell + rng.uniform(0.0, 0.05, line.times))
        for at, digit in zip(moments.tolist(), rng.integers(1, 9, line.times), strict=True):
            _add(story, at, line.level, line.process, line.code, line.text.format(n=digit))
    story.entries.sort()
    return story


def _add(story: _Story, at: float, level: str, process: str, code: str, text: str) -> None:
    story.entries.append((at, level, process, f"{code} {text}"))
    story.codes[code] += 1


def _add_chatter(story: _Story, rng: np.random.Generator) -> None:
    moments = np.sort(rng.uniform(0.0, NIGHT_SECONDS, LINES)).tolist()
    dice = rng.uniform(0.0, 1.0, LINES).tolist()
    picks = rng.integers(0, 10**6, LINES).tolist()
    for at, die, pick in zip(moments, dice, picks, strict=True):
        level = "WARN" if die > 0.97 else "DEBUG" if die > 0.80 else "INFO"
        pool = _CHATTER[level]
        process, text = pool[pick % len(pool)]
        story.entries.append((at, level, process, text.format(n=pick % 7 + 2)))
