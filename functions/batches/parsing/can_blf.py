"""Checks a whole Vector BLF file before python-can reads it.

python-can reads a truncated file without an error, as if it ended there.
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from batches.parsing.interface import Rejected

MAGIC = b"LOGG"
_HEADER = struct.Struct("<4sL8xQ")
_OBJECT = struct.Struct("<4sHHLL")
_CONTAINER = struct.Struct("<H6xL4x")
_CONTAINER_TYPE = 10
_DEFLATED = 2
_UNPACKED_LIMIT = 64 * 1024 * 1024


def require_whole(path: Path) -> None:
    """Raise `Rejected` if the file is truncated, damaged, or unpacks to more than 64 MiB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise Rejected(f"the BLF file is cut off inside its header, after {size} bytes")
        _, header_size, announced = _HEADER.unpack(header)
        if size < max(announced, header_size):
            raise Rejected(f"the BLF file is cut off after {size} of {announced} bytes")
        file.seek(header_size)
        while file.tell() < size:
            _check_object(file, size)


def _check_object(file: BinaryIO, size: int) -> None:
    start = file.tell()
    data = file.read(_OBJECT.size)
    if len(data) < _OBJECT.size:
        raise Rejected(f"the BLF file is cut off at byte {start}")
    signature, _, _, length, kind = _OBJECT.unpack(data)
    if signature != b"LOBJ" or length < _OBJECT.size:
        raise Rejected(f"the BLF file is damaged at byte {start}")
    if start + length > size:
        raise Rejected(f"the BLF file is cut off in the object at byte {start}")
    if kind == _CONTAINER_TYPE:
        _check_container(file.read(length - _OBJECT.size), start)
    file.seek(start + length + length % 4)


def _check_container(data: bytes, start: int) -> None:
    if len(data) < _CONTAINER.size or _CONTAINER.unpack_from(data)[0] != _DEFLATED:
        return
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data[_CONTAINER.size :], _UNPACKED_LIMIT)
    except zlib.error:
        raise Rejected(f"the BLF file is damaged in the container at byte {start}") from None
    if not unpacker.eof:
        too_much = len(unpacked) == _UNPACKED_LIMIT
        reason = "unpacks to an absurd size" if too_much else "is incomplete"
        raise Rejected(f"the container at byte {start} of the BLF file {reason}")
