"""Reads lines in blocks, quickly and in bounded memory, however long a line is."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

LINE_LIMIT = 64 * 1024
"""Characters kept of a line that reaches across blocks; the rest of it is passed over."""
_BLOCK_BYTES = 512 * 1024


def encoding_of(head: bytes) -> str:
    """Tell UTF-16 and UTF-8 by their byte-order mark; everything else is read as UTF-8."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def blocks(
    stream: BinaryIO, encoding: str = "utf-8-sig", block_bytes: int = _BLOCK_BYTES
) -> Iterator[tuple[list[str], bool]]:
    """Yield lists of lines without their line breaks, and whether the last of them had one.

    Only the last list can hold a line without a line break. Bytes that do not decode become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    rest = ""
    while data := stream.read(block_bytes):
        lines = (rest + decoder.decode(data)).split("\n")
        rest = lines.pop()[:LINE_LIMIT]
        if lines:
            yield lines, True
    rest += decoder.decode(b"", final=True)
    if rest:
        yield [rest], False
