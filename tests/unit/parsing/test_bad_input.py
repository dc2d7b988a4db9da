"""V-04: a bad file fails alone, with a reason that its owner understands."""

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.parsing import samples
from tests.unit.parsing.conftest import Parse, Tables
from tests.unit.parsing.samples import BytesSource

from batches.parsing import CsvSink, Rejected, parse

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.log", "the file is empty"),
        (gzip.compress(b"", mtime=0), "a.log.gz", "the file is empty"),
        (PNG, "a.log", "this is a PNG image"),
        (b"PK\x03\x04" + bytes(100), "a.log", "this is a ZIP archive"),
        (random.Random(1).randbytes(4096), "a.log", "binary data of no supported format"),
        (b"hello\nworld\n", "a.blf", "a .blf file must begin with the BLF magic"),
        (
            b"hello\nworld\n",
            "a.ulg",
            "not what the name says: a .ulg file must begin with the ULog",
        ),
        (b"hello\nworld\n", "a.asc", "an .asc file must begin with"),
        (b"hello\nworld\n", "a.trc", "a .trc file must begin with"),
        (random.Random(1).randbytes(4096), "a.ulg", "must begin with the ULog magic"),
        (samples.ulog()[:-3], "a.ulg", r"the ULog is cut off: the record at byte \d+"),
        (samples.ulog()[:12], "a.ulg", "cut off inside its header, after 12 bytes"),
        (samples.ulog_definitions()[:60], "a.ulg", "the ULog is cut off"),
        (samples.ulog_definitions(), "a.ulg", "the ULog holds no data"),
        (samples.ulog_definitions() + b"\7\0?" + bytes(40), "a.ulg", "no data that can be read"),
        (samples.candump()[:-4], "a.log", "the file is cut off in line 60"),
        (samples.candump()[:-14], "a.log", "the file is cut off in line 60"),
        (
            samples.candump() + b"garbage\n" * 60,
            "a.log",
            "line 61 and many after it are no candump",
        ),
        (gzip.compress(samples.TEXT, mtime=0)[:-20], "a.log.gz", "the gzip file is cut off"),
        (
            gzip.compress(samples.TEXT, mtime=0)[:30] + bytes(500),
            "a.gz",
            "the gzip data is damaged",
        ),
    ],
)
def test_rejected_with_reason(data: bytes, name: str, reason: str, parsed: Parse) -> None:
    """V-04: empty, mislabelled, cut and damaged files are rejected with a reason."""
    with pytest.raises(Rejected, match=reason):
        parsed(data, name)


@pytest.mark.parametrize(
    ("kind", "kept", "reason"),
    [
        ("blf", 0.7, r"the BLF file is cut off after \d+ of \d+ bytes"),
        ("blf", 0.05, r"the BLF file is cut off after \d+ of \d+ bytes"),
        ("asc", 0.7, r"the file is cut off in line \d+"),
        ("trc", 0.7, r"the file is cut off in line \d+"),
    ],
)
def test_cut_can_files(kind: str, kept: float, reason: str, parsed: Parse, tmp_path: Path) -> None:
    """V-04: a CAN log that ends inside a frame is rejected; the reason names the place."""
    data = samples.can_file(tmp_path / f"made.{kind}", samples.frames())
    cut = int(len(data) * kept) // 2 * 2
    while kind != "blf" and data[cut - 1 : cut] in b"\r\n":
        cut -= 1
    with pytest.raises(Rejected, match=reason):
        parsed(data[: cut - 1], f"a.{kind}")


def test_damaged_blf(parsed: Parse, tmp_path: Path) -> None:
    """V-04: a BLF with a damaged container is rejected."""
    data = bytearray(samples.can_file(tmp_path / "made.blf", samples.frames()))
    data[200:240] = bytes(40)
    with pytest.raises(Rejected, match="damaged in the container at byte 144"):
        parsed(bytes(data), "a.blf")


def test_no_frames(parsed: Parse, tmp_path: Path) -> None:
    """V-04: a CAN log without a frame is rejected."""
    data = samples.can_file(tmp_path / "made.asc", samples.frames())
    with pytest.raises(Rejected, match="no CAN frame"):
        parsed(b"\n".join(data.split(b"\n")[:3]) + b"\nfree text\n", "a.asc")


def test_oversized(parsed: Parse) -> None:
    """V-04: a file over the limit is rejected before it is read."""
    with pytest.raises(Rejected, match=r"has 1000 bytes, more than the 999 allowed"):
        parsed(b"x" * 1000, "a.log", max_bytes=999)


def test_gzip_bomb(parsed: Parse) -> None:
    """V-04: the unpacked size of a gzip file is limited."""
    bomb = gzip.compress(b"a quiet line\n" * 2_000_000)
    with pytest.raises(Rejected, match="unpacks to more than 1000000 bytes"):
        parsed(bomb, "a.log.gz", max_bytes=1_000_000)


def test_ulog_with_absurd_formats(parsed: Parse) -> None:
    """V-04: formats that contain themselves, or expand without end, are rejected before reading."""
    for fields in (b"motion[9] m;", b"float[65000] x;"):
        data = samples.ulog().replace(
            b"motion:uint64_t timestamp;float height;int32_t count;",
            (b"motion:" + fields).ljust(53, b" "),
        )
        with pytest.raises(Rejected, match=r"part of itself|more than 20000 fields"):
            parsed(data, "a.ulg")


def test_content_decides_not_the_name(parsed: Parse) -> None:
    """V-04: a supported format is parsed under any file name."""
    assert parsed(samples.ulog(), "a.log").format == "ulog"
    assert parsed(samples.candump(), "a.txt").format == "candump"


def test_one_long_line(parsed: Parse, tables: Tables) -> None:
    """V-04: a line of megabytes is one event, and is cut before it is stored."""
    features = parsed(b"2024-03-01 10:00:00 ERROR " + b"x" * 5_000_000 + b"\nshort\n", "a.log")
    assert features.total_events == 2
    assert len(tables["events"][0]["message"]) <= 4096


def test_storage_trouble_is_not_the_files_fault(tmp_path: Path) -> None:
    """V-04: the caller gets the error of a full disk or a lost connection, and can try again."""

    def refuse(name: str) -> None:
        raise OSError(28, "no space left")

    source = BytesSource(samples.TEXT, "a.log", tmp_path)
    with pytest.raises(OSError, match="no space"), CsvSink(refuse) as sink:  # type: ignore[arg-type]
        parse(source, sink, {}, max_bytes=10_000)


BEGINNINGS = (
    b"",
    samples.ulog_definitions(),
    samples.ulog()[:400],
    samples.candump()[:100],
    b"LOGG",
    b"\x1f\x8b\x08",
    b"BO_ 1 A",
    b"date Sam Sep 30\nbase hex  timestamps absolute\n",
    b";$FILEVERSION=2.1\n",
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from(BEGINNINGS),
    rest=st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
    name=st.sampled_from(["a.log", "a.ulg", "a.blf", "a.dbc", "a.rec"]),
)
def test_any_bytes(start: bytes, rest: bytes, name: str, parsed: Parse) -> None:
    """V-04: for any bytes a parse returns features or a reason."""
    try:
        features = parsed(start + rest, name)
    except Rejected as reason:
        assert str(reason)  # noqa: PT017 - either end is fine
    else:
        assert features.total_events >= 0
