"""Values as the database holds them: whole or as a difference, compressed where they are large."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from skald.checkpoints import delta
from skald.checkpoints.errors import CorruptCheckpoint

COMPRESS_ABOVE = 64 * 1024
"""Bytes; more than this is compressed: G-02 asks for it above 1 MiB only.

PostgreSQL compresses what it stores itself, by a method that takes it four times as long. Below,
zlib's slower reading weighs more than that.
"""
INLINE_UP_TO = 256
"""Bytes of a value that costs less inside its checkpoint than as a row of its own."""
LONGEST_CHAIN = 31
"""Differences one after the other before a whole value is stored again, to be read quickly."""


class Stored(NamedTuple):
    """The columns that hold a content; `checksum` is of what it stands for."""

    is_compressed: bool
    checksum: int
    data: bytes

    @property
    def data_size_bytes(self) -> int:
        return len(self.data)

    def head(self) -> dict[str, Any]:
        """Return what is stored beside the data."""
        return {
            "is_compressed": self.is_compressed,
            "size": self.data_size_bytes,
            "checksum": self.checksum,
        }

    @classmethod
    def of(cls, content: bytes, whole: bytes | None = None) -> Self:
        """Store a content, which stands for itself or for the `whole` that is made of it."""
        checksum = checksum_of(content if whole is None else whole)
        is_large = len(content) > COMPRESS_ABOVE
        data = zlib.compress(content, level=1) if is_large else content
        return cls(is_large, checksum, data)

    def content(self) -> bytes:
        """Return what was stored; raises `CorruptCheckpoint` where that cannot be had."""
        try:
            return zlib.decompress(self.data) if self.is_compressed else self.data
        except zlib.error as error:
            raise CorruptCheckpoint("a compressed value cannot be read") from error

    def verified(self) -> bytes:
        """Return what was stored and stands for itself; raises `CorruptCheckpoint`."""
        return verify(self.content(), self.checksum)


class ValueKey(NamedTuple):
    """Under what a value is stored: its channel and the checkpoint that brought it."""

    channel: str
    checkpoint_id: str


class Value(NamedTuple):
    """A value, encoded, and the key it is stored under."""

    encoded: bytes
    key: ValueKey
    chain: int
    """How many differences lead to it."""


class Row(NamedTuple):
    """A value's row: whole, or a difference to the value of another row."""

    base: ValueKey | None
    stored: Stored


def row_for(encoded: bytes, base: Value | None) -> tuple[Row, int]:
    """Return how to store a value, and the differences that then lead to it."""
    if base is not None and base.chain < LONGEST_CHAIN:
        difference = worthwhile_difference(base.encoded, encoded)
        if difference is not None:
            return Row(base.key, Stored.of(difference, encoded)), base.chain + 1
    return Row(None, Stored.of(encoded)), 0


def worthwhile_difference(base: bytes, encoded: bytes) -> bytes | None:
    """Return the difference if it is smaller than half of the value, else None."""
    difference = delta.difference(base, encoded)
    return difference if 2 * len(difference) < len(encoded) else None


def restored(rows: Mapping[ValueKey, Row], wanted: ValueKey) -> Value:
    """Return the value stored under a key, made from rows.

    Raises `CorruptCheckpoint` where a row is missing or the outcome is not what was saved.
    """
    differences: list[bytes] = []
    key: ValueKey | None = wanted
    encoded = b""
    while key is not None:
        if key not in rows or len(differences) > LONGEST_CHAIN:
            raise CorruptCheckpoint(f"the value of checkpoint {key.checkpoint_id} is gone")
        row = rows[key]
        content = row.stored.content()
        key = row.base
        if key is None:
            encoded = content
        else:
            differences.append(content)
    for difference in reversed(differences):
        encoded = applied(encoded, difference)
    verify(encoded, rows[wanted].stored.checksum)
    return Value(encoded, wanted, len(differences))


def checksum_of(content: bytes) -> int:
    return zlib.crc32(content)


def verify(content: bytes, checksum: int) -> bytes:
    """Return the content; raises `CorruptCheckpoint` if its checksum is another."""
    if checksum_of(content) != checksum:
        raise CorruptCheckpoint("a checksum does not match")
    return content


def applied(base: bytes, difference: bytes) -> bytes:
    """Return what a difference makes of its base; raises `CorruptCheckpoint`."""
    try:
        return delta.apply(base, difference)
    except (ValueError, TypeError) as error:
        raise CorruptCheckpoint("a difference cannot be read") from error
