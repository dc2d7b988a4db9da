"""Checks the records of a ULog before it is decoded, so that a bad file gets a clear reason."""

import mmap
import re
import struct
from collections.abc import Iterator

from batches.parsing.interface import Rejected

MAGIC = b"ULog\x01\x12\x35"
_HEADER_BYTES = 16
_RECORD = struct.Struct("<HB")
_KNOWN_KINDS = frozenset(b"BFIMPQARDLCSO")
_KINDS_READ = frozenset(b"BFA")
_APPENDED = struct.Struct("<16x3Q")
_FIELDS_LIMIT = 20_000
_FIELD = re.compile(r"([^\s\[;]+)(?:\[(\d+)\])? [^;]+")

type Formats = dict[str, list[tuple[str, int]]]


def require_whole(log: bytes | mmap.mmap) -> None:
    """Raise `Rejected` unless the log is whole, has data and has valid formats.

    A whole log does not end inside a record. The check stops at a damaged part inside the log,
    because pyulog can resume after one.
    """
    if len(log) < _HEADER_BYTES:
        raise Rejected(f"the ULog is cut off inside its header, after {len(log)} bytes")
    formats: Formats = {}
    rows = 0
    for kind, body in _records(log):
        if kind == ord("D") or kind not in _KNOWN_KINDS:
            rows += 1  # there may be data after a damaged part
        elif kind == ord("F"):
            _note_format(body, formats)
        elif kind == ord("A"):
            _check_width(body[3:].decode(errors="replace"), formats)
    if not rows:
        raise Rejected("the ULog holds no data: it ends after its definitions")


def _records(log: bytes | mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """Yield the kind of every record, with its content for the kinds in `_KINDS_READ`."""
    appended: list[int] = []
    position, size = _HEADER_BYTES, len(log)
    while position < size:
        end = position + _RECORD.size
        kind = -1
        if end <= size:
            length, kind = _RECORD.unpack_from(log, position)
            end += length
            if kind not in _KNOWN_KINDS:
                yield kind, b""
                return
        restart = next((offset for offset in appended if position < offset < end), None)
        if restart is not None:
            position = restart  # the vehicle lost power here, and appended data after its restart
            continue
        if end > size:
            raise Rejected(
                f"the ULog is cut off: the record at byte {position} goes on "
                f"after the end of the file at byte {size}"
            )
        body = log[position + _RECORD.size : end] if kind in _KINDS_READ else b""
        if kind == ord("B") and len(body) >= _APPENDED.size:
            appended = [offset for offset in _APPENDED.unpack_from(body) if offset]
        yield kind, body
        position = end


def _note_format(body: bytes, formats: Formats) -> None:
    name, _, fields = body.decode(errors="replace").partition(":")
    formats[name] = [(kind, int(count or 1)) for kind, count in _FIELD.findall(fields)]


def _check_width(name: str, formats: Formats) -> None:
    if _width(name, formats, ()) > _FIELDS_LIMIT:
        raise Rejected(f"the ULog declares more than {_FIELDS_LIMIT} fields for the topic {name!r}")


def _width(name: str, formats: Formats, outer: tuple[str, ...]) -> int:
    if name in outer:
        raise Rejected(f"the ULog declares the format {name!r} as a part of itself")
    if name not in formats:
        return 1
    total = 0
    for kind, count in formats[name]:
        total += count * _width(kind, formats, (*outer, name))
        if total > _FIELDS_LIMIT:
            break
    return total
