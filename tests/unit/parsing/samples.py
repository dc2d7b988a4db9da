"""Small log files of every format, created here so that the tests need no data set."""

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import can

ULOG_MAGIC = b"ULog\x01\x12\x35\x01"


class BytesSource:
    """A source over bytes in memory."""

    def __init__(self, data: bytes, name: str, directory: Path) -> None:
        self._data = data
        self._directory = directory
        self.name = name
        self.size = len(data)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        with io.BytesIO(self._data) as stream:
            yield stream

    @contextmanager
    def path(self) -> Iterator[Path]:
        path = self._directory / "spooled"
        path.write_bytes(self._data)
        yield path


def _record(kind: str, body: bytes) -> bytes:
    return struct.pack("<HB", len(body), ord(kind)) + body


def ulog_definitions() -> bytes:
    """The header, formats and information of a log with one topic of two instances."""
    info = b"char[3] sys_namePX4"
    return b"".join(
        (
            ULOG_MAGIC,
            struct.pack("<Q", 1_000_000),
            _record("F", b"motion:uint64_t timestamp;float height;int32_t count;"),
            _record("I", bytes([len(b"char[3] sys_name")]) + info),
            _record("A", b"\x00" + struct.pack("<H", 0) + b"motion"),
            _record("A", b"\x01" + struct.pack("<H", 1) + b"motion"),
        )
    )


def ulog(rows: int = 100) -> bytes:
    """A log of a climb, with an error, an emergency and a dropout of 25 ms."""
    data = [ulog_definitions()]
    for row in range(rows):
        at = 1_000_000 + row * 10_000
        height = row * (row % 7 + 90) / 100
        for instance in (0, 1):
            data.append(_record("D", struct.pack("<HQfi", instance, at, height, row)))
    for level, text in ((b"3", b"baro 2 failed"), (b"0", b"crash detected"), (b"6", b"landed")):
        data.append(_record("L", level + struct.pack("<Q", 1_500_000) + text))
    data.append(_record("O", struct.pack("<H", 25)))
    return b"".join(data)


def frames(count: int = 60, period: float = 0.1) -> list[can.Message]:
    """Frames of two identifiers: a byte that changes much, a constant, and a counter."""
    return [
        can.Message(
            timestamp=round(index * period, 6),
            arbitration_id=0x123 if index % 2 else 0x18FF0010,
            is_extended_id=not index % 2,
            data=bytes((abs(index % 40 - 20), 7, index % 256)),
            channel=0,
        )
        for index in range(count)
    ]


def can_file(path: Path, messages: Iterable[can.Message]) -> bytes:
    """Write messages with python-can in the format of the path's suffix. Returns the bytes."""
    with can.Logger(path) as logger:
        for message in messages:
            logger(message)
    return path.read_bytes()


def candump(count: int = 60) -> bytes:
    """The frames as candump text."""
    lines = [
        f"({m.timestamp:.6f}) can0 {m.arbitration_id:0{8 if m.is_extended_id else 3}X}#"
        f"{m.data.hex().upper()}\n"
        for m in frames(count)
    ]
    return "".join(lines).encode()


TEXT = b"""\
2024-03-01 10:00:00,100 INFO [main] com.example.Boot: started in 512 ms
2024-03-01 10:00:01,200 INFO [main] com.example.Boot: started in 97 ms
2024-03-01 10:00:02,300 ERROR [bus-1] com.example.Can: timeout, code=E1234 on channel 3
java.net.ConnectException: refused
\tat com.example.Can.open(Can.java:17)
2024-03-01 10:00:03,400 WARN [bus-1] com.example.Can: retry 1
2024-03-01 10:00:04,500 FATAL [main] com.example.Boot: watchdog reset after 5000 ms

"""
