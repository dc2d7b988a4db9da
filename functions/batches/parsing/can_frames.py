"""The common form of CAN frames, and reading them with the readers of python-can."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from batches.parsing.interface import Rejected
from batches.parsing.lines import LINE_LIMIT, blocks

type Frame = tuple[float, str, str, int, str, int, str, str]
"""timestamp (s), channel, identifier (hex), extended, direction, dlc, data (hex), kind."""

FRAME_COLUMNS = ("timestamp", "channel", "id", "extended", "direction", "dlc", "data", "kind")
FRAMES_AT_ONCE = 10_000
_END_OF_ASC = "end triggerblock"


class FrameBlock(NamedTuple):
    """Frames in file order, and the lines (number, text) that could not be read as a frame."""

    frames: list[Frame]
    unreadable: Sequence[tuple[int, str]] = ()


def frame_of(message: Any) -> Frame:
    """Convert a python-can message."""
    if message.is_error_frame:
        kind = "error"
    elif message.is_remote_frame:
        kind = "remote"
    else:
        kind = "fd" if message.is_fd else "data"
    return (
        message.timestamp,
        "" if message.channel is None else str(message.channel),
        f"{message.arbitration_id:0{8 if message.is_extended_id else 3}X}",
        int(message.is_extended_id),
        "Rx" if message.is_rx else "Tx",
        message.dlc,
        message.data.hex().upper(),
        kind,
    )


def batches_of(messages: Iterable[Any]) -> Iterator[FrameBlock]:
    """Yield python-can messages in batches of at most `FRAMES_AT_ONCE` frames."""
    for group in itertools.batched(map(frame_of, messages), FRAMES_AT_ONCE, strict=False):
        yield FrameBlock(list(group))


class _LineFeed:
    """The text stream for a python-can reader; it knows the current line and its number."""

    def __init__(self, stream: BinaryIO) -> None:
        self.number = 0
        self.line = ""
        self.terminated = True
        self._lines = self._read(stream)

    def __iter__(self) -> Iterator[str]:
        return self._lines  # a reader iterates twice: first over the header, then over the rest

    def _read(self, stream: BinaryIO) -> Iterator[str]:
        for lines, terminated in blocks(stream):
            self.terminated = terminated
            for line in lines:
                self.number += 1
                self.line = line
                if len(line) >= LINE_LIMIT:
                    raise Rejected(f"line {self.number} is too long for a line of a CAN log")
                yield line

    def read(self) -> str:
        raise NotImplementedError  # python-can only checks that this method exists

    write = read

    def close(self) -> None:
        """Do nothing: the code that opened the stream closes it."""


def read_lines(stream: BinaryIO, reader: Callable[[Any], Iterable[Any]]) -> Iterator[FrameBlock]:
    """Read a line-based format with a python-can reader.

    Raises `Rejected` if a line cannot be read, or if the file ends inside a frame.
    """
    logging.getLogger("can").setLevel(logging.ERROR)
    feed = _LineFeed(stream)
    yield from batches_of(_checked(feed, reader))


def _checked(feed: _LineFeed, reader: Callable[[Any], Iterable[Any]]) -> Iterator[Any]:
    number, message = 0, None
    try:
        for message in reader(feed):
            number = feed.number
            yield message
    except (ValueError, IndexError, KeyError, TypeError) as error:
        if feed.terminated:
            raise Rejected(f"line {feed.number} is not a line of a CAN log: {error}") from error
        raise _cut_off(feed) from error
    if feed.terminated or feed.line.strip().lower() in ("", _END_OF_ASC):
        return
    if number != feed.number or _is_short(message):
        raise _cut_off(feed)


def _is_short(message: Any) -> bool:
    has_data = not (message.is_remote_frame or message.is_error_frame)
    return has_data and len(message.data) < message.dlc


def _cut_off(feed: _LineFeed) -> Rejected:
    return Rejected(f"the file is cut off in line {feed.number}")
