"""Deltas: how to make a value from the value before it.

Values are MessagePack. A list, text or mapping that grew differs in its head, which holds its
length, and in what is new; the bytes between are the same. So a delta holds a new head, where the
unchanged front begins, what is new in the middle, and how much of the end is unchanged. A value
that is contained in its base as it is, as a channel's first value is in the input of the run, is
only its position.
"""

from typing import NamedTuple

import ormsgpack

_PROBE = 64
"""Bytes to look a value up by: a search for all of it takes longer than all the rest."""
# First byte of a text, list or mapping whose length follows, and the bytes of the head.
_HEADS = {0xD9: 2, 0xDA: 3, 0xDB: 5, 0xDC: 3, 0xDD: 5, 0xDE: 3, 0xDF: 5}


class _Delta(NamedTuple):
    head: bytes
    start: int  # where in the base its unchanged front begins
    front: int  # bytes of it
    middle: bytes
    back: int  # unchanged bytes at the end of the base


def difference(base: bytes, value: bytes) -> bytes:
    """Return what `apply` needs to make `value` of `base`."""
    begin = base.find(value[:_PROBE])
    if begin >= 0 and base[begin : begin + len(value)] == value:
        return ormsgpack.packb(tuple(_Delta(b"", begin, len(value), b"", 0)))
    start, head = _head(base), _head(value)
    old, new = base[start:], value[head:]
    front = _common(old, new)
    back = _common(old[front:][::-1], new[front:][::-1])
    delta = _Delta(value[:head], start, front, new[front : len(new) - back], back)
    return ormsgpack.packb(tuple(delta))


def apply(base: bytes, difference: bytes) -> bytes:
    """Return the value that a difference makes of `base`."""
    delta = _Delta(*ormsgpack.unpackb(difference))
    front = base[delta.start : delta.start + delta.front]
    return delta.head + front + delta.middle + base[len(base) - delta.back :]


def _head(value: bytes) -> int:
    return _HEADS.get(value[0], 1)


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes at the beginning are the same; slices are compared at memory speed."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
