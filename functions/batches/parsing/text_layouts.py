"""The line headers of common loggers: the positions of time, level and message.

The first lines of a file decide its layout. A time without a year gets the `REFERENCE_YEAR`. A
time without a date gets the first day of that year. Such times only give the order of events.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from batches.parsing.codes import LEVEL_WORDS

REFERENCE_YEAR = 2000
_MATCHING_SHARE = 0.2
_FRACTION_AND_ZONE = re.compile(r"(?:[.,](\d{1,9}))?\d*\s?(?:(Z)|([+-])(\d\d):?(\d\d))?")

type Clock = Callable[[str], float | None]


class Layout(NamedTuple):
    """A line header: `pattern` has the groups time and level, and ends before the message."""

    name: str
    pattern: re.Pattern[str]
    clock: Clock
    wall_clock: bool


@lru_cache(maxsize=4096)
def _epoch(text: str, pattern: str) -> float | None:
    try:
        moment = datetime.strptime(" ".join(text.split()), pattern)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC).timestamp()


@lru_cache(maxsize=4096)
def _rest(text: str) -> float:
    match = _FRACTION_AND_ZONE.match(text)
    if match is None:
        return 0.0
    fraction, _, sign, hours, minutes = match.groups()
    seconds = int(fraction) / 10 ** len(fraction) if fraction else 0.0
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    return seconds


def _clock(pattern: str, length: int, prefix: str = "") -> Clock:
    """Return a clock for times of `length` characters; a fraction and a zone may follow."""

    def read(text: str) -> float | None:
        whole = _epoch(prefix + text[:length], pattern)
        return None if whole is None else whole + _rest(text[length:])

    return read


def _yearless(text: str) -> float | None:
    whole, _, fraction = text.partition(".")
    second = _epoch(f"{REFERENCE_YEAR} {whole}", "%Y %b %d %H:%M:%S")
    return None if second is None else second + _rest(f".{fraction}")


def _ctime(text: str) -> float | None:
    year = text[-4:]
    whole, _, fraction = text[4:-5].partition(".")
    second = _epoch(f"{year} {whole}", "%Y %b %d %H:%M:%S")
    return None if second is None else second + _rest(f".{fraction}")


def _iso(text: str) -> float | None:
    second = _epoch(text[:19].replace("T", " ").replace("/", "-"), "%Y-%m-%d %H:%M:%S")
    return None if second is None else second + _rest(text[19:])


_SUBSECOND = r"(?:[.,]\d{1,9})?"
_ISO = rf"\d{{4}}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d{_SUBSECOND}(?:\s?(?:Z|[+-]\d\d:?\d\d)\b)?"
_SYSLOG_TIME = r"[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d"
# A level word in capitals needs no mark after it. In lower case it does: "failed:" is a level, but
# "Failed to open" is the beginning of a message.
_WORD = rf"[\[(<|]*\s*(?P<level>(?:{LEVEL_WORDS})\b|(?i:{LEVEL_WORDS})(?=\s*[\])>|:]))\s*[\])>|]*"
_NO_LEVEL = "(?P<level>)"
_NO_TIME = "(?P<time>)"
_THREAD = r"(?:\[[^\]]{0,200}\]\s*)"
_SOURCE = r"(?![\w.$]*(?:Exception|Error)\b)[\w.$/]{1,120}"
_SEPARATOR = r"[\s|,;:-]*"
_PROGRAM = r"(?:[^\s:\[]{1,48}(?: [\w.]{1,16})?(?:\[\d+\])?:(?:\s+|$)|\[\d+\]:\s*)?"
_LOGCAT = r"\s+\d+\s+\d+\s+(?P<level>[VDIWEFA])\s+[^:]{0,80}?\s*:\s?"

_PATTERNS: tuple[tuple[str, str, Clock, bool], ...] = (
    (
        "logcat",
        rf"(?P<time>\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3,6}}){_LOGCAT}",
        _clock("%Y %m-%d %H:%M:%S", 14, f"{REFERENCE_YEAR} "),
        False,
    ),
    ("logcat with year", rf"(?P<time>{_ISO}){_LOGCAT}", _iso, True),
    (
        "logcat brief",
        r"(?:(?P<time>\d\d-\d\d \d\d:\d\d:\d\d\.\d{3,6})[\s:]+)?"
        r"(?P<level>[VDIWEFA])/[^(:\s][^(:]{0,60}(?:\(\s*\d+\))?:\s?",
        _clock("%Y %m-%d %H:%M:%S", 14, f"{REFERENCE_YEAR} "),
        False,
    ),
    (
        "cluster syslog",
        r"\S+ (?P<time>\d{9,10}) \d{4}\.\d\d\.\d\d \S+ "
        rf"{_SYSLOG_TIME} \S+ {_PROGRAM}{_NO_LEVEL}",
        float,
        True,
    ),
    (
        "cluster events",
        r"\S+ (?P<time>\d{9,10}) \d{4}\.\d\d\.\d\d \S+ [\d.-]+ \S+ \S+ \S+ (?P<level>[A-Z]+)\s",
        float,
        True,
    ),
    (
        "syslog",
        rf"(?:<\d{{1,3}}>)?(?P<time>{_SYSLOG_TIME}(?:\.\d{{1,6}})?) \S+ {_PROGRAM}{_NO_LEVEL}",
        _yearless,
        False,
    ),
    (
        "compact",
        rf"(?P<time>\d{{6}} \d{{6}}) \d+ {_WORD} (?:\S+: )?",
        _clock("%y%m%d %H%M%S", 13),
        True,
    ),
    (
        "apache",
        rf"\[[A-Z][a-z]{{2}} (?P<time>[A-Z][a-z]{{2}} {{1,2}}\d\d? [\d:.]{{8,15}} \d{{4}})\]"
        rf" \[(?:\w+:)?(?P<level>\w+)\] {_THREAD}*",
        lambda text: _ctime(f"xxx {text}"),
        True,
    ),
    (
        "date, level",
        rf"[\[(]?(?P<time>{_ISO})[\])]?{_SEPARATOR}{_THREAD}?(?:[\w.]{{1,60}} - )?{_WORD}"
        rf"{_SEPARATOR}{_THREAD}*(?:{_SOURCE}(?::| - )\s?)?",
        _iso,
        True,
    ),
    ("level, date", rf"{_WORD}{_SEPARATOR}[\[(]?(?P<time>{_ISO})[\])]?{_SEPARATOR}", _iso, True),
    ("date", rf"[\[(]?(?P<time>{_ISO})[\])]?{_SEPARATOR}{_THREAD}*{_NO_LEVEL}", _iso, True),
    ("kernel", rf"\[\s*(?P<time>\d{{1,9}}\.\d{{3,9}})\]\s*(?:{_WORD}:\s*)?", float, False),
    (
        "epoch",
        rf"[\[(]?(?P<time>\d{{10}}(?:\.\d{{1,9}})?)[\])]?[\s,;:|-]+(?:{_WORD}{_SEPARATOR})?",
        float,
        True,
    ),
    (
        "time of day",
        rf"[\[(]?(?P<time>\d\d:\d\d:\d\d{_SUBSECOND})[\])]?{_SEPARATOR}{_THREAD}?(?:{_WORD}{_SEPARATOR})?",
        _clock("%Y-%m-%d %H:%M:%S", 8, f"{REFERENCE_YEAR}-01-01 "),
        False,
    ),
    (
        "seconds",
        rf"[\[(]?(?P<time>\d{{1,9}}\.\d{{1,9}})[\])]?[\s,;:|-]+(?:{_WORD}{_SEPARATOR})?",
        float,
        False,
    ),
    ("level", rf"{_NO_TIME}{_WORD}[\s:-]+{_THREAD}*", lambda _text: None, False),
    ("date inside", rf"(?=.{{1,120}}?(?P<time>{_ISO})){_NO_LEVEL}", _iso, True),
)
LAYOUTS = tuple(
    Layout(name, re.compile(pattern), clock, wall_clock)
    for name, pattern, clock, wall_clock in _PATTERNS
)
PLAIN = Layout("plain", re.compile(f"{_NO_TIME}{_NO_LEVEL}"), lambda _text: None, False)


def detect(lines: Iterable[str]) -> Layout:
    """Return the layout of most of these lines; `PLAIN` if none matches a fifth of them."""
    filled = [line for line in lines if line.strip()]
    matching = [
        sum(layout.pattern.match(line) is not None for line in filled) for layout in LAYOUTS
    ]
    best = max(matching)
    if not filled or best < _MATCHING_SHARE * len(filled):
        return PLAIN
    return LAYOUTS[matching.index(best)]
