"""CAN logs: candump, Vector ASC and BLF, PEAK TRC."""

import re
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from batches.features import Features
from batches.parsing import can_blf
from batches.parsing.can_candump import FIRST_LINE, read_candump
from batches.parsing.can_capture import Capture
from batches.parsing.can_frames import Batch, batches_of, read_lines
from batches.parsing.interface import Sink, Source

_ASC_HEAD = re.compile(rb"^\s*(?:date \w+ .*\n|base (?:hex|dec)\s+timestamps)", re.I)
_TRC_HEAD = re.compile(rb"^\s*;\$FILEVERSION=|^;.*\n(?:;.*\n)*;-+\+-", re.I)


class CanParser:
    """What the CAN formats have in common: frames in, tables and features out."""

    name = "can"

    def parse(self, source: Source, sink: Sink, databases: Mapping[str, str]) -> Features:
        """Write frames, identifiers and, with DBC files, decoded signals."""
        capture = Capture(sink, databases, self.name)
        with source.open() as stream:
            for batch in self.batches(stream):
                capture.add(batch)
        return capture.finish()

    def batches(self, stream: BinaryIO) -> Iterable[Batch]:
        """Read the frames."""
        raise NotImplementedError


class CandumpParser(CanParser):
    """`candump -L` of Linux can-utils; streams."""

    name = "candump"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Say whether the first line is a frame."""
        return FIRST_LINE.match(head) is not None

    def batches(self, stream: BinaryIO) -> Iterable[Batch]:
        """Read the frames."""
        return read_candump(stream)


class AscParser(CanParser):
    """Vector ASC."""

    name = "asc"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Say whether the header of an ASC file is there."""
        return _ASC_HEAD.match(head) is not None

    def batches(self, stream: BinaryIO) -> Iterable[Batch]:
        """Read the frames; times count from the start of the measurement."""
        from can.io.asc import ASCReader

        return read_lines(stream, ASCReader)


class TrcParser(CanParser):
    """PEAK TRC, versions 1.0 to 2.1."""

    name = "trc"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Say whether the header of a TRC file is there."""
        return _TRC_HEAD.match(head) is not None

    def batches(self, stream: BinaryIO) -> Iterable[Batch]:
        """Read the frames."""
        from can.io.trc import TRCReader

        return read_lines(stream, TRCReader)


class BlfParser(CanParser):
    """Vector BLF."""

    name = "blf"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Say whether the BLF magic is there."""
        return head.startswith(can_blf.MAGIC)

    def parse(self, source: Source, sink: Sink, databases: Mapping[str, str]) -> Features:
        """Check the file from end to end, then parse it."""
        with source.path() as path:
            can_blf.require_whole(path)
            capture = Capture(sink, databases, self.name)
            with path.open("rb") as stream:
                for batch in self.batches(stream):
                    capture.add(batch)
        return capture.finish()

    def batches(self, stream: BinaryIO) -> Iterable[Batch]:
        """Read the frames."""
        from can.io.blf import BLFReader

        return batches_of(BLFReader(stream))
