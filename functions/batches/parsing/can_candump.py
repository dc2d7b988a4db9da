"""Reads the text format of `candump -L` with a regular expression.

python-can reads this format too, 20 times slower. It reads the lines that do not match the
expression.
"""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from batches.parsing.can_frames import Frame, FrameBlock, frame_of
from batches.parsing.interface import Rejected
from batches.parsing.lines import blocks

_LINE = re.compile(
    r"\((\d{1,12}\.\d{1,9})\) (\S{1,32}) ([0-9A-Fa-f]{3}|[0-3][0-9A-Fa-f]{7})"
    r"#(?:#([0-9A-Fa-f]))?((?:[0-9A-Fa-f]{2}){0,64})(?: ([RT]))?\s*"
)
FIRST_LINE = re.compile(rb"\s*\(\d+\.\d+\)\s+\S+\s+[0-9A-Fa-f]{3,8}#")
_UNREADABLE_SHARE = 0.1
_BLOCK_BYTES = 1024 * 1024  # 25,000 frames: with fewer per identifier, numpy is not faster


def read_candump(stream: BinaryIO) -> Iterator[FrameBlock]:
    """Yield the frames of a candump log.

    Raises `Rejected` if the last line is truncated, or if more than a tenth of the lines of a
    block are not frames.
    """
    number = 0
    before: list[Frame] = []
    for lines, terminated in blocks(stream, block_bytes=_BLOCK_BYTES):
        batch = _read_block(lines, number)
        if not terminated and _is_cut(batch, before):
            raise Rejected(f"the file is cut off in line {number + 1}")
        if len(batch.unreadable) > 1 + _UNREADABLE_SHARE * len(lines):
            line, text = batch.unreadable[0]
            raise Rejected(f"line {line} and many after it are no candump lines: {text[:60]!r}")
        yield batch
        number += len(lines)
        before = batch.frames


def _read_block(lines: list[str], number: int) -> FrameBlock:
    matches = [match for line in lines if (match := _LINE.fullmatch(line))]
    if len(matches) == len(lines):
        return FrameBlock(_frames(matches))
    frames: list[Frame] = []
    unreadable: list[tuple[int, str]] = []
    for line in lines:
        number += 1
        match = _LINE.fullmatch(line)
        odd = None if match else _odd_frame(line)
        frames += _frames([match]) if match else [odd] if odd else []
        if not (match or odd) and line.strip():
            unreadable.append((number, line))
    return FrameBlock(frames, unreadable)


def _frames(matches: list[re.Match[str]]) -> list[Frame]:
    return [
        (
            float(time),
            channel,
            identifier.upper(),
            1 if len(identifier) == 8 else 0,
            "Tx" if direction == "T" else "Rx",
            len(data) // 2,
            data.upper(),
            _kind(identifier, fd),
        )
        for time, channel, identifier, fd, data, direction in [m.groups() for m in matches]
    ]


def _kind(identifier: str, fd: str | None) -> str:
    if len(identifier) == 8 and identifier[0] in "23":
        return "error"  # the kernel's CAN_ERR_FLAG; python-can recognises it only for bus errors
    return "fd" if fd else "data"


def _odd_frame(line: str) -> Frame | None:
    from can.io.canutils import CanutilsLogReader

    if len(line) > 1_000:
        return None
    try:
        return next((frame_of(m) for m in CanutilsLogReader(io.StringIO(line))), None)
    except (ValueError, IndexError):
        return None


def _is_cut(batch: FrameBlock, before: list[Frame]) -> bool:
    """Return whether a last line without a line break is truncated.

    It is truncated if it is not a frame, or if it has less data than the frame of the same
    identifier before it.
    """
    if not batch.frames:
        return bool(batch.unreadable)
    last = batch.frames[-1]
    peers = (frame[5] for frame in reversed(before) if frame[1:3] == last[1:3])
    return next(peers, last[5]) > last[5]
