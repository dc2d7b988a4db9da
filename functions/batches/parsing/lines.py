"""Reads lines in blocks, in bounded memory even if a line is very long."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

LINE_LIMIT = 64 * 1024
"""Most characters kept of a line that spans two blocks or more; the rest is skipped."""
_BLOCK_BYTES = 512 * 1024


def encoding_of(head: bytes) -> str:
    """Return the encoding: UTF-16 if the bytes begin with its byte-order mark, else UTF-8."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def blocks(
    stream: BinaryIO, encoding: str = "utf-8-sig", block_bytes: int = _BLOCK_BYTES
) -> Iterator[tuple[list[str], bool]]:
    """Yield lists of lines without line breaks, and whether the last line had a line break.

    Only the very last line of the stream can have none. Invalid bytes become U+FFFD.
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
