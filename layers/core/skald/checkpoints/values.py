"""Values as the database stores them: whole or as a difference, compressed if they are large."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from skald.checkpoints import delta
from skald.checkpoints.errors import CorruptCheckpoint

COMPRESS_ABOVE = 64 * 1024
"""Bytes above which a value is compressed; G-02 requires it only above 1 MiB.

PostgreSQL compresses values by itself, but takes four times as long as zlib. Below this size, zlib
costs more when it reads than it saves when it writes.
"""
INLINE_UP_TO = 256
"""Bytes up to which a value costs less inside its checkpoint than as a row of its own."""
LONGEST_CHAIN = 31
"""How many differences follow one another before a whole value is stored, to limit reads."""


class Stored(NamedTuple):
    """The columns that hold a content; `checksum` is that of the whole value."""

    is_compressed: bool
    checksum: int
    data: bytes

    @property
    def data_size_bytes(self) -> int:
        return len(self.data)

    def head(self) -> dict[str, Any]:
        """Return the columns beside the data."""
        return {
            "is_compressed": self.is_compressed,
            "size": self.data_size_bytes,
            "checksum": self.checksum,
        }

    @classmethod
    def of(cls, content: bytes, whole: bytes | None = None) -> Self:
        """Pack a content: a whole value, or a difference from which the value `whole` is made."""
        checksum = checksum_of(content if whole is None else whole)
        is_large = len(content) > COMPRESS_ABOVE
        data = zlib.compress(content, level=1) if is_large else content
        return cls(is_large, checksum, data)

    def content(self) -> bytes:
        """Return the content; raises `CorruptCheckpoint` if it cannot be decompressed."""
        try:
            return zlib.decompress(self.data) if self.is_compressed else self.data
        except zlib.error as error:
            raise CorruptCheckpoint("a compressed value cannot be read") from error

    def verified(self) -> bytes:
        """Return a whole value after a check of its checksum; raises `CorruptCheckpoint`."""
        return verify(self.content(), self.checksum)


class ValueKey(NamedTuple):
    """The key of a value: its channel and the checkpoint that first stored it."""

    channel: str
    checkpoint_id: str


class Value(NamedTuple):
    """A value, encoded, and the key it is stored under."""

    encoded: bytes
    key: ValueKey
    chain: int
    """How many differences the value is made of."""


class Row(NamedTuple):
    """A value's row: whole, or a difference to the value of another row."""

    base: ValueKey | None
    stored: Stored


def row_for(encoded: bytes, base: Value | None) -> tuple[Row, int]:
    """Return the row that stores a value, and how many differences it is then made of."""
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

    Raises `CorruptCheckpoint` if a row is missing or the value differs from the one that was saved.
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
    """Return the content; raises `CorruptCheckpoint` if its checksum differs."""
    if checksum_of(content) != checksum:
        raise CorruptCheckpoint("a checksum does not match")
    return content


def applied(base: bytes, difference: bytes) -> bytes:
    """Return the value that a difference makes from its base; raises `CorruptCheckpoint`."""
    try:
        return delta.apply(base, difference)
    except (ValueError, TypeError) as error:
        raise CorruptCheckpoint("a difference cannot be read") from error
