"""Parses a log file of any supported format into CSV tables and features.

    with S3Sink(client, bucket, "parsed/<batch>/<file>") as sink:
        features = parse(source, sink, databases, max_bytes=limit)

Every log gives `events.csv` and `timeline.csv`; ULog and CAN logs give `movers.csv` as well; the
rest is each format's own. What cannot be parsed raises `Rejected` with a reason for its owner.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from batches.features import Features
from batches.parsing.can_logs import AscParser, BlfParser, CandumpParser, TrcParser
from batches.parsing.content import signature
from batches.parsing.dbc import DbcParser, is_database, read_database
from batches.parsing.external import ExternalParser
from batches.parsing.interface import Parser, Rejected, Sink, Source
from batches.parsing.sources import GzipSource, LocalSource, S3Source
from batches.parsing.tables import CsvSink, LocalSink, S3Sink
from batches.parsing.text import TextParser
from batches.parsing.ulog import UlogParser

__all__ = [
    "CsvSink",
    "LocalSink",
    "LocalSource",
    "Rejected",
    "S3Sink",
    "S3Source",
    "is_database",
    "parse",
    "read_database",
]

PARSERS: tuple[Parser, ...] = (
    UlogParser(),
    BlfParser(),
    AscParser(),
    TrcParser(),
    CandumpParser(),
    DbcParser(),
    ExternalParser(),
    TextParser(),
)
"""In the order they are asked: those that know their content, then by name, then any text."""

_HEAD_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_PROMISES = {
    ".ulg": "a .ulg file must begin with the ULog magic",
    ".ulog": "a .ulog file must begin with the ULog magic",
    ".blf": "a .blf file must begin with the BLF magic 'LOGG'",
    ".asc": "an .asc file must begin with the lines 'date' and 'base'",
    ".trc": "a .trc file must begin with a ';$FILEVERSION' line",
}
_INFRASTRUCTURE = ("botocore", "boto3", "smart_open", "urllib3", "s3transfer")


def parse(source: Source, sink: Sink, databases: Mapping[str, str], *, max_bytes: int) -> Features:
    """Parse one file with the parser its content asks for.

    `databases` maps the names of the batch's DBC files to their text; `max_bytes` bounds the file,
    and what it unpacks to. Raises `Rejected` when the file is at fault; trouble with storage or
    memory passes through, for the caller to try again.
    """
    if not source.size:
        raise Rejected("the file is empty")
    if source.size > max_bytes:
        raise Rejected(f"the file has {source.size} bytes, more than the {max_bytes} allowed")
    head = _head(source)
    if head.startswith(_GZIP_MAGIC):
        source = GzipSource(source, max_bytes)
        head = _head(source)
    parser = _choose(head, source.name)
    try:
        with _collector_paused():
            return parser.parse(source, sink, databases)
    except (Rejected, MemoryError, OSError):
        raise
    except Exception as error:
        if type(error).__module__.startswith(_INFRASTRUCTURE):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise Rejected(
            f"the file is damaged: its {parser.name} reader stopped: {reason}"
        ) from error


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Parsing makes millions of tuples and no cycles; looking for some costs a fifth more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _head(source: Source) -> bytes:
    with source.open() as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise Rejected("the file is empty")
    return head


def _choose(head: bytes, name: str) -> Parser:
    parser = next((each for each in PARSERS if each.recognises(head, name)), None)
    if parser is None:
        raise Rejected(_unreadable(head, name))
    if isinstance(parser, TextParser):
        broken = _broken_promise(name)
        if broken:
            raise Rejected(broken)
    return parser


def _unreadable(head: bytes, name: str) -> str:
    known = signature(head)
    if known:
        return f"this is {known}, not a log of a supported format"
    return _broken_promise(name) or "this is binary data of no supported format"


def _broken_promise(name: str) -> str | None:
    lowered = name.lower()
    promise = next((text for end, text in _PROMISES.items() if lowered.endswith(end)), None)
    return f"the content is not what the name says: {promise}" if promise else None
