"""V-04: the result for each format, on files created here."""

import gzip
import sys
from pathlib import Path

import can
import pytest
from tests.unit.parsing import samples
from tests.unit.parsing.conftest import Parse, Tables
from tests.unit.parsing.samples import BytesSource

from batches.parsing import Rejected, is_database
from batches.parsing.external import ExternalParser

DBC = """VERSION ""
BU_: ECU
BO_ 291 MOTION: 3 ECU
 SG_ LEVEL : 0|8@1+ (0.5,0) [0|5] "m" ECU
 SG_ DTC_STATE : 8|8@1+ (1,0) [0|255] "" ECU
 SG_ COUNTER : 16|8@1+ (1,0) [0|255] "" ECU
VAL_ 291 DTC_STATE 7 "LOW_VOLTAGE" 0 "NONE" ;
"""
EXTERNAL = """\
import csv, os, sys
if os.environ.get("SECRET"):
    sys.exit("the environment leaked")
text = open(sys.argv[1]).read()
if text == "bad":
    sys.exit("bad magic number")
with open(sys.argv[2], "w", newline="") as stream:
    if text == "odd":
        stream.write("time,what\\n1,2\\n")
        sys.exit()
    out = csv.writer(stream)
    out.writerow(["code", "timestamp", "message", "level", "speed"])
    for number, line in enumerate(text.splitlines()):
        out.writerow(["B7", number / 2, line, "ERROR" if number == 1 else "info", number * 3])
"""


def test_ulog(parsed: Parse, tables: Tables) -> None:
    """V-04: a ULog gives one table per topic instance, messages, dropouts, largest changes."""
    features = parsed(samples.ulog(), "flight.ulg")
    assert features.format == "ulog"
    assert features.total_events == 200 + 3
    assert features.details["topics"] == 2
    assert features.error_count == 2
    assert features.top_error_codes == {"BARO_FAILED": 1, "CRASH_DETECTED": 1}
    assert [event.code for event in features.critical_events] == ["CRASH_DETECTED"]
    assert (features.warning_count, features.details["dropout_ms"]) == (1, 25)
    assert (features.time_start, features.time_end) == (1.0, 1.99)
    assert tables.names == {"events", "timeline", "movers", "motion", "motion_1"}
    assert tables["motion_1"][7] == {"timestamp": "1070000", "height": "6.3", "count": "7"}
    assert {row["signal"] for row in tables["movers"]} == {"motion.height", "motion_1.height"}


def test_damaged_ulog(parsed: Parse) -> None:
    """V-04: a damaged part in the middle of a log is skipped."""
    data = bytearray(samples.ulog())
    middle = data.index(b"\x12\x00D", len(data) // 2)
    data[middle + 2] = 0xEE
    features = parsed(bytes(data), "flight.ulg")
    assert features.details["rows"] == 199


def test_table_names_stay_in_the_folder(parsed: Parse, tables: Tables) -> None:
    """V-04: the name of a topic cannot put its table into another folder or over another table."""
    parsed(samples.ulog().replace(b"motion", b"../../"), "flight.ulg")
    assert {"______", "_______1"} <= tables.names
    parsed(samples.ulog().replace(b"motion", b"events"), "flight.ulg")
    assert {"topic_events", "topic_events_1", "events"} <= tables.names


@pytest.mark.parametrize("kind", ["asc", "blf", "trc", "log", "asc.gz"])
def test_can(kind: str, parsed: Parse, tables: Tables, tmp_path: Path) -> None:
    """V-04: every CAN format gives the same frames, identifiers and byte activity."""
    data = samples.can_file(tmp_path / f"made.{kind}", samples.frames())
    features = parsed(data, f"drive.{kind}")
    assert features.total_events == 60
    assert (features.details["identifiers"], features.details["channels"]) == (2, 1)
    assert features.error_count == features.warning_count == 0
    payloads = [message.data.hex().upper() for message in samples.frames()]
    assert [row["data"] for row in tables["frames"]] == payloads
    rows = {row["id"]: row for row in tables["identifiers"]}
    assert set(rows) == {"123", "18FF0010"}
    assert (rows["123"]["frames"], rows["123"]["extended"]) == ("30", "0")
    assert float(rows["123"]["period_s"]) == pytest.approx(0.2)
    assert rows["123"]["changes_per_byte"].split() == ["27", "0", "29"]
    assert rows["123"]["bits_per_byte"].split()[1] == "0"
    assert {row["signal"].rpartition(".")[2] for row in tables["movers"]} == {"byte0"}


def test_can_special_frames(parsed: Parse, tables: Tables, tmp_path: Path) -> None:
    """V-04: error frames count as errors; FD and remote frames are counted separately."""
    messages = [
        can.Message(timestamp=1.0, arbitration_id=0x10, is_extended_id=False, data=b"\1"),
        can.Message(timestamp=1.1, is_error_frame=True, channel=0),
        can.Message(timestamp=1.2, arbitration_id=0x10, is_remote_frame=True, channel=0),
        can.Message(timestamp=1.3, arbitration_id=0x20, is_fd=True, data=bytes(12), channel=0),
    ]
    data = samples.can_file(tmp_path / "made.log", messages)
    features = parsed(data)
    assert features.total_events == 4
    assert features.top_error_codes == {"CAN_ERROR_FRAME": 1}
    kinds = ("error_frames", "remote_frames", "fd_frames")
    assert [features.details[kind] for kind in kinds] == [1, 1, 1]
    assert [row["kind"] for row in tables["frames"]] == ["data", "error", "remote", "fd"]


def test_can_silence_and_clock(parsed: Parse, tables: Tables) -> None:
    """V-04: a clock that goes back and an identifier that stops are warnings."""
    times = [i * 0.1 for i in range(20)] + [6.0 + i * 0.1 for i in range(20)] + [2.0]
    text = "".join(f"({at:.6f}) can0 0A1#01\n" for at in times)
    features = parsed(text.encode())
    codes = [row["code"] for row in tables["events"]]
    assert sorted(codes) == ["CAN_SILENT_0A1", "CAN_TIME_REVERSED"]
    assert (features.total_events, features.warning_count) == (41, 2)


def test_can_with_database(parsed: Parse, tables: Tables) -> None:
    """V-04: with a DBC, signals are decoded; values out of range and faults are errors."""
    lines = [
        f"({i / 10:.6f}) can0 123#{12 if i in (8, 9) else 4:02X}00{i:02X}\n" for i in range(30)
    ]
    lines[20:23] = [line.replace("#0400", "#0407") for line in lines[20:23]]
    lines.append("(3.000000) can0 200#00\n")
    features = parsed("".join(lines).encode(), databases={"a.dbc": DBC, "bad.dbc": "nonsense"})
    assert features.top_error_codes == {
        "MOTION_LEVEL_RANGE": 1,
        "MOTION_DTC_STATE_LOW_VOLTAGE": 1,
    }
    assert (features.details["decoded_messages"], features.details["unknown_ids"]) == (30, 1)
    rows = tables["signals_MOTION"]
    assert (rows[8]["LEVEL"], rows[8]["DTC_STATE"], rows[21]["DTC_STATE"]) == ("6.0", "0", "7")


def test_database(parsed: Parse, tables: Tables) -> None:
    """V-04: a DBC file is recognized by its content, checked and listed."""
    assert is_database(DBC.encode(), "anything.txt")
    assert not is_database(samples.TEXT, "a.log")
    features = parsed(DBC.encode(), "a.dbc")
    assert (features.format, features.details["signals"]) == ("dbc", 3)
    assert tables["signals"][0]["unit"] == "m"
    with pytest.raises(Rejected, match="not a valid DBC"):
        parsed(b"BO_ nonsense", "a.dbc")


def test_text(parsed: Parse, tables: Tables) -> None:
    """V-04: plain text gives levels, codes, times and templates."""
    features = parsed(samples.TEXT)
    assert (features.total_events, features.details["lines"]) == (7, 8)
    assert (features.error_count, features.warning_count) == (2, 1)
    assert features.top_error_codes == {"CODE_E1234": 1, "WATCHDOG_RESET_AFTER_MS": 1}
    assert [event.line for event in features.critical_events] == [7]
    assert features.wall_clock
    assert (features.time_start, features.time_end) == (1709287200.1, 1709287204.5)
    events = tables["events"]
    assert events[0]["template_id"] == events[1]["template_id"]
    assert events[3]["timestamp"] == ""
    assert tables["templates"][0]["template"] == "started in <*> ms"
    assert sum(int(row[level]) for row in tables["timeline"] for level in list(row)[1:]) == 7


@pytest.mark.parametrize(
    ("line", "level", "timestamp", "message"),
    [
        ("2024-03-01T10:00:00Z ERROR x failed", "error", 1709287200.0, "x failed"),
        ("2024-03-01T12:00:00.250+02:00 [info] up", "info", 1709287200.25, "up"),
        ("2024-03-01 10:00:00,5 - root - WARNING - low", "warning", 1709287200.5, "low"),
        ("03-17 16:13:38.811  1702  2395 E Tag: boom 1", "error", 953309618.811, "boom 1"),
        ("E/Camera( 123): no signal", "error", None, "no signal"),
        ("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: error: x", "error", 960995761.0, "error: x"),
        ("081109 203615 148 INFO dfs.DataNode: ok", "info", 1226262975.0, "ok"),
        ("- 1131566461 2005.11.09 d1 Nov 9 12:01:01 d1/d1 crond[29]: x", "info", 1131566461.0, "x"),
        ("[Sun Dec 04 04:47:44 2005] [error] mod_jk bad", "error", 1133671664.0, "mod_jk bad"),
        ("[   12.345678] usb 1-1: reset", "info", 12.345678, "usb 1-1: reset"),
        ("1700000000.5 WARN slow", "warning", 1700000000.5, "slow"),
        ("12:00:01.5 FATAL stop", "critical", 946728001.5, "stop"),
        ("CRITICAL: engine", "critical", None, "engine"),
        ('{"time":"2024-03-01T10:00:00Z","level":"error"}', "error", 1709287200.0, None),
        ("kernel panic - not syncing", "critical", None, None),
        ("Failed to open, 0 errors", "info", None, None),
    ],
)
def test_line_layouts(
    line: str,
    level: str,
    timestamp: float | None,
    message: str | None,
    parsed: Parse,
    tables: Tables,
) -> None:
    """V-04: the parser understands the line header of each common logger."""
    parsed(f"{line}\n{line}\n".encode())
    event = tables["events"][0]
    assert event["level"] == level
    assert event["timestamp"] == ("" if timestamp is None else str(timestamp))
    assert event["message"] == (message or line)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("E1234 pump", "E1234"),
        ("sensor P0420 low", "P0420"),
        ("stored DTC 0x1A2B", "DTC_0x1A2B"),
        ("got ERR_TIMEOUT", "ERR_TIMEOUT"),
        ("exit code=137", "CODE_137"),
        ("open: errno=13", "ERRNO_13"),
        ("java.net.ConnectException: refused", "java.net.ConnectException"),
        ("pump 3 is stuck at 4.5 bar", "PUMP_IS_STUCK_AT_BAR"),
    ],
)
def test_error_codes(message: str, code: str, parsed: Parse) -> None:
    """V-04: the code of an error is the one in its text, else one built from its words."""
    features = parsed(f"2024-03-01 10:00:00 ERROR {message}\n".encode())
    assert features.top_error_codes == {code: 1}


@pytest.mark.parametrize(
    "data",
    [
        samples.TEXT.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + samples.TEXT,
        samples.TEXT.decode().encode("utf-16"),
        samples.TEXT.replace(b"refused", b"ref\xffused\x00"),
        gzip.compress(samples.TEXT),
    ],
    ids=["crlf", "bom", "utf-16", "invalid", "gzip"],
)
def test_text_encodings(data: bytes, parsed: Parse) -> None:
    """V-04: line ends, byte order marks, bad bytes and compression change no count."""
    features = parsed(data, "a.log")
    assert (features.total_events, features.error_count, features.warning_count) == (7, 2, 1)


@pytest.fixture
def external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "rec parser.py"
    program.write_text(EXTERNAL)
    monkeypatch.setenv("SKALD_REC_PARSER", f"{sys.executable} '{program}'")
    monkeypatch.setenv("SECRET", "1")
    return program


def test_external(external: Path, parsed: Parse, tables: Tables) -> None:
    """V-04: the configured program reads a .rec file, and its own columns are kept."""
    features = parsed(b"start\npump fails\nstop\n", "a.rec")
    assert (features.format, features.total_events, features.error_count) == ("rec", 3, 1)
    assert features.top_error_codes == {"B7": 1}
    assert [row["speed"] for row in tables["recording"]] == ["0", "3", "6"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"bad", "exit code 1: bad magic number"), (b"odd", "lacks the columns timestamp, level")],
)
def test_external_failure(content: bytes, reason: str, external: Path, parsed: Parse) -> None:
    """V-04: an error of the program is the reason why its file fails."""
    with pytest.raises(Rejected, match=reason):
        parsed(content, "a.rec")


def test_external_not_configured(parsed: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    """V-04: without a program a .rec file fails alone; the reason names the setting."""
    monkeypatch.delenv("SKALD_REC_PARSER", raising=False)
    with pytest.raises(Rejected, match="set SKALD_REC_PARSER"):
        parsed(b"anything", "a.rec")


def test_external_takes_too_long(tmp_path: Path, tables: Tables) -> None:
    """V-04: a program that hangs is killed."""
    from batches.parsing import LocalSink

    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    parser = ExternalParser(lambda: sleep, timeout=0.2)
    with LocalSink(tables.directory) as sink, pytest.raises(Rejected, match=r"longer than 0.2 s"):
        parser.parse(BytesSource(b"x", "a.rec", tmp_path), sink, {})
