"""The parsers of CAN logs: candump, Vector ASC and BLF, PEAK TRC."""

import re
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from batches.features import Features
from batches.parsing import can_blf
from batches.parsing.can_candump import FIRST_LINE, read_candump
from batches.parsing.can_capture import Capture
from batches.parsing.can_frames import FrameBlock, batches_of, read_lines
from batches.parsing.interface import LogFile, Sink

_ASC_HEAD = re.compile(rb"^\s*(?:date \w+ .*\n|base (?:hex|dec)\s+timestamps)", re.I)
_TRC_HEAD = re.compile(rb"^\s*;\$FILEVERSION=|^;.*\n(?:;.*\n)*;-+\+-", re.I)


class CanParser:
    """Base class of the CAN parsers: turns frames into tables and features."""

    name = "can"

    def parse(self, source: LogFile, sink: Sink, databases: Mapping[str, str]) -> Features:
        """Write frames, identifiers and movers, and with DBC files decoded signals."""
        capture = Capture(sink, databases, self.name)
        with source.open() as stream:
            for batch in self.batches(stream):
                capture.add(batch)
        return capture.finish()

    def batches(self, stream: BinaryIO) -> Iterable[FrameBlock]:
        """Read the frames."""
        raise NotImplementedError


class CandumpParser(CanParser):
    """Logs of `candump -L` from the Linux can-utils; the file is streamed."""

    name = "candump"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Return whether the first line is a frame."""
        return FIRST_LINE.match(head) is not None

    def batches(self, stream: BinaryIO) -> Iterable[FrameBlock]:
        """Read the frames."""
        return read_candump(stream)


class AscParser(CanParser):
    """Vector ASC logs."""

    name = "asc"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Return whether the file begins with the header of an ASC file."""
        return _ASC_HEAD.match(head) is not None

    def batches(self, stream: BinaryIO) -> Iterable[FrameBlock]:
        """Read the frames; their times are seconds since the start of the measurement."""
        from can.io.asc import ASCReader

        return read_lines(stream, ASCReader)


class TrcParser(CanParser):
    """PEAK TRC logs, versions 1.0 to 2.1."""

    name = "trc"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Return whether the file begins with the header of a TRC file."""
        return _TRC_HEAD.match(head) is not None

    def batches(self, stream: BinaryIO) -> Iterable[FrameBlock]:
        """Read the frames."""
        from can.io.trc import TRCReader

        return read_lines(stream, TRCReader)


class BlfParser(CanParser):
    """Vector BLF logs."""

    name = "blf"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Return whether the file begins with the BLF magic number."""
        return head.startswith(can_blf.MAGIC)

    def parse(self, source: LogFile, sink: Sink, databases: Mapping[str, str]) -> Features:
        """Check the whole file, then parse it; raises `Rejected` if it is damaged."""
        with source.path() as path:
            can_blf.require_whole(path)
            capture = Capture(sink, databases, self.name)
            with path.open("rb") as stream:
                for batch in self.batches(stream):
                    capture.add(batch)
        return capture.finish()

    def batches(self, stream: BinaryIO) -> Iterable[FrameBlock]:
        """Read the frames."""
        from can.io.blf import BLFReader

        return batches_of(BLFReader(stream))
