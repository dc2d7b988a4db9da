"""Parses a log file of any supported format into CSV tables and features (V-04).

    with S3Sink(client, bucket, "parsed/<batch>/<file>") as sink:
        features = parse(source, sink, databases, max_bytes=limit)

Every log gives `events.csv` and `timeline.csv`. ULog and CAN logs also give `movers.csv`. Each
format adds its own tables. A file that cannot be parsed raises `Rejected` with a reason for its
owner.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from batches.features import Features
from batches.parsing.can_logs import AscParser, BlfParser, CandumpParser, TrcParser
from batches.parsing.content import signature
from batches.parsing.dbc import DbcParser, is_database, read_database
from batches.parsing.external import ExternalParser
from batches.parsing.interface import LogFile, Parser, Rejected, Sink
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
"""The parsers, in the order of the choice: by content first, then by file name, then any text."""

_HEAD_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_EXPECTED = {
    ".ulg": "a .ulg file must begin with the ULog magic",
    ".ulog": "a .ulog file must begin with the ULog magic",
    ".blf": "a .blf file must begin with the BLF magic 'LOGG'",
    ".asc": "an .asc file must begin with the lines 'date' and 'base'",
    ".trc": "a .trc file must begin with a ';$FILEVERSION' line",
}
_INFRASTRUCTURE = ("botocore", "boto3", "smart_open", "urllib3", "s3transfer")


def parse(source: LogFile, sink: Sink, databases: Mapping[str, str], *, max_bytes: int) -> Features:
    """Parse one file; its content decides which parser is used.

    `databases` maps the names of the batch's DBC files to their text. `max_bytes` limits the size
    of the file and of what it unpacks to. Raises `Rejected` if the file is at fault. Errors of
    storage or memory are raised unchanged, so that the caller can retry.
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
    """Pause the garbage collector.

    Parsing creates millions of tuples but no cycles, and the collector would cost a fifth more.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _head(source: LogFile) -> bytes:
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
        mismatch = _mismatch(name)
        if mismatch:
            raise Rejected(mismatch)
    return parser


def _unreadable(head: bytes, name: str) -> str:
    known = signature(head)
    if known:
        return f"this is {known}, not a log of a supported format"
    return _mismatch(name) or "this is binary data of no supported format"


def _mismatch(name: str) -> str | None:
    lowered = name.lower()
    expected = next((text for end, text in _EXPECTED.items() if lowered.endswith(end)), None)
    return f"the content is not what the name says: {expected}" if expected else None
