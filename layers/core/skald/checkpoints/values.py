"""Values as they lie in the database: whole or as a difference, compressed where they are great."""

import zlib
from collections.abc import Mapping
from typing import NamedTuple, Self

from skald.checkpoints import splice
from skald.checkpoints.errors import CorruptCheckpoint

COMPRESS_ABOVE = 1024 * 1024
"""Bytes; more than this is compressed (G-02)."""
INLINE_UP_TO = 256
"""Bytes of a value that costs less inside its checkpoint than as a row of its own."""
LONGEST_CHAIN = 31
"""Differences one after the other before a whole value is stored again, to be read quickly."""


class Stored(NamedTuple):
    """The columns that hold a content; `checksum` is of what it stands for."""

    is_compressed: bool
    data_size_bytes: int
    checksum: int
    data: bytes

    @classmethod
    def of(cls, content: bytes, whole: bytes | None = None) -> Self:
        """Store a content, which stands for itself or for the `whole` that is made of it."""
        checksum = checksum_of(content if whole is None else whole)
        is_great = len(content) > COMPRESS_ABOVE
        data = zlib.compress(content, level=1) if is_great else content
        return cls(is_great, len(data), checksum, data)

    def content(self) -> bytes:
        """Return what was stored; raises `CorruptCheckpoint` where that cannot be had."""
        try:
            return zlib.decompress(self.data) if self.is_compressed else self.data
        except zlib.error as error:
            raise CorruptCheckpoint("a compressed value cannot be read") from error

    def verified(self) -> bytes:
        """Return what was stored and stands for itself; raises `CorruptCheckpoint`."""
        return verify(self.content(), self.checksum)


class Value(NamedTuple):
    """A value of a channel, encoded, and where it is stored."""

    encoded: bytes
    checkpoint_id: str
    chain: int
    """How many differences lead to it."""


class Row(NamedTuple):
    """A value's row: whole, or a difference to the one in `base_checkpoint_id`."""

    base_checkpoint_id: str | None
    stored: Stored


def row_for(encoded: bytes, base: Value | None) -> tuple[Row, int]:
    """Return how to store a value, and the differences that then lead to it.

    A difference is worth its reading where it is less than half of the value.
    """
    if base is not None and base.chain < LONGEST_CHAIN:
        delta = splice.difference(base.encoded, encoded)
        if 2 * len(delta) < len(encoded):
            return Row(base.checkpoint_id, Stored.of(delta, encoded)), base.chain + 1
    return Row(None, Stored.of(encoded)), 0


def restored(rows: Mapping[str, Row], checkpoint_id: str) -> Value:
    """Return the value a checkpoint stored, of the rows of its channel by checkpoint.

    Raises `CorruptCheckpoint` where a row is missing or the outcome is not what was saved.
    """
    differences: list[bytes] = []
    source: str | None = checkpoint_id
    encoded = b""
    while source is not None:
        if source not in rows or len(differences) > LONGEST_CHAIN:
            raise CorruptCheckpoint(f"the value of checkpoint {source} is gone")
        row = rows[source]
        content = row.stored.content()
        source = row.base_checkpoint_id
        if source is None:
            encoded = content
        else:
            differences.append(content)
    for difference in reversed(differences):
        encoded = _applied(encoded, difference)
    verify(encoded, rows[checkpoint_id].stored.checksum)
    return Value(encoded, checkpoint_id, len(differences))


def checksum_of(content: bytes) -> int:
    return zlib.crc32(content)


def verify(content: bytes, checksum: int) -> bytes:
    """Return the content; raises `CorruptCheckpoint` if its checksum is another."""
    if checksum_of(content) != checksum:
        raise CorruptCheckpoint("a checksum does not match")
    return content


def _applied(base: bytes, difference: bytes) -> bytes:
    try:
        return splice.apply(base, difference)
    except (ValueError, TypeError) as error:
        raise CorruptCheckpoint("a difference cannot be read") from error
