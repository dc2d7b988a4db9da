"""Deltas: how to make a value from the value before it.

Values are MessagePack. A list, text or mapping that grew differs in its head, which holds its
length, and in the new bytes; the bytes between are the same. A delta holds a new head, where the
unchanged front begins, the new bytes in the middle, and how many bytes at the end are unchanged. If
the base contains the whole value, the delta is only its position. The input of a run contains the
first value of a channel in this way.
"""

from typing import NamedTuple

import ormsgpack

_PROBE = 64
"""Length of the search key of a value: a search for the whole value takes longest of all."""
# First byte of a text, list or mapping whose length follows, and the length of its head.
_HEADS = {0xD9: 2, 0xDA: 3, 0xDB: 5, 0xDC: 3, 0xDD: 5, 0xDE: 3, 0xDF: 5}


class _Delta(NamedTuple):
    head: bytes
    start: int  # where in the base its unchanged front begins
    front: int  # bytes of it
    middle: bytes
    back: int  # unchanged bytes at the end of the base


def difference(base: bytes, value: bytes) -> bytes:
    """Return the difference by which `apply` makes `value` from `base`."""
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
    """Return the value that a difference makes from `base`."""
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
