"""Parses PX4 ULog flight logs with pyulog."""

import contextlib
import io
import lzma
import mmap
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from batches.features import Features, Severity
from batches.parsing import ulog_layout
from batches.parsing.codes import slug
from batches.parsing.interface import Cell, LogFile, Rejected, Sink
from batches.parsing.journal import Journal
from batches.parsing.movers import Tracks, write_movers

_ROWS_AT_ONCE = 5_000
_METADATA_LIMIT = 64 * 1024 * 1024
_RESERVED = frozenset({"events", "timeline", "movers"})
_SECOND = 1e6  # in microseconds
_SEVERITIES: dict[str, Severity] = {
    "EMERGENCY": "critical",
    "ALERT": "critical",
    "CRITICAL": "critical",
    "ERROR": "error",
    "WARNING": "warning",
    "DEBUG": "debug",
}


class Message(NamedTuple):
    """A logged text or a decoded PX4 event; the time is in seconds."""

    timestamp: float
    severity: Severity
    text: str


class UlogParser:
    """Parses ULog files; it writes one CSV per topic and instance.

    `total_events` = `rows` + `messages`. Each dropout is also a warning `ULOG_DROPOUT`, which is
    not in that total.
    """

    name = "ulog"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002 - the content decides
        """Return whether the file begins with the ULog magic number."""
        return head.startswith(ulog_layout.MAGIC)

    def parse(self, source: LogFile, sink: Sink, databases: Mapping[str, str]) -> Features:  # noqa: ARG002
        """Write the topics, messages and dropouts; raises `Rejected` if the log is damaged."""
        log = _load(source)
        if not log.data_list:
            raise Rejected("the ULog is damaged and holds no data that can be read")
        start = log.start_timestamp / _SECOND
        journal = Journal(sink, self.name, start=start)
        messages = _messages(log)
        _report(journal, log, messages)
        tracks: list[Tracks] = []
        rows = 0
        for name, parts in _topics(log):
            tracks.append(Tracks(name, _charted(parts[0]), start))
            rows += sum(_write_topic(sink, journal, name, part, tracks[-1]) for part in parts)
            sink.table(name, ()).close()
        write_movers(sink, tracks)
        return journal.finish(
            topics=len(tracks), rows=rows, messages=len(messages), **_summary(log, start)
        )


def _load(source: LogFile) -> Any:
    from pyulog import ULog

    with source.path() as path:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            ulog_layout.require_whole(view)
        with path.open("rb") as file, contextlib.redirect_stdout(io.StringIO()):
            return ULog(file)


def _summary(log: Any, start: float) -> dict[str, Any]:
    info = log.msg_info_dict
    return {
        "dropouts": len(log.dropouts),
        "dropout_ms": sum(dropout.duration for dropout in log.dropouts),
        "system": str(info.get("sys_name", "")),
        "hardware": str(info.get("ver_hw", "")),
        "software": str(info.get("ver_sw", "")),
        "duration_s": log.last_timestamp / _SECOND - start,
        "parameters": len(log.initial_parameters),
        "damaged": int(bool(log.file_corruption)),
    }


def _report(journal: Journal, log: Any, messages: list[Message]) -> None:
    for number, message in enumerate(messages, 1):
        code = "" if message.severity in ("info", "debug") else slug(message.text)
        journal.event(number, message.timestamp, message.severity, code, message.text)
    for number, dropout in enumerate(log.dropouts, 1):
        lost = f"the logger lost {dropout.duration} ms of data"
        journal.finding(number, dropout.timestamp / _SECOND, "warning", "ULOG_DROPOUT", lost)
    if log.file_corruption:
        text = "parts of the log are damaged and were skipped"
        journal.finding(0, None, "warning", "ULOG_DAMAGED", text)


def _messages(log: Any) -> list[Message]:
    """Return texts and events, as `ulog_messages` prints them: without texts that repeat events."""
    tagged = [message for group in log.logged_messages_tagged.values() for message in group]
    texts = [(m.timestamp, m.log_level_str(), m.message) for m in (*log.logged_messages, *tagged)]
    if log.msg_info_dict.get("sys_name") == "PX4":
        texts = [text for text in texts if not text[2].endswith("\t")] + _px4_events(log)
    texts.sort(key=lambda text: int(text[0]))
    return [
        Message(int(at) / _SECOND, _SEVERITIES.get(level, "info"), text.strip())
        for at, level, text in texts
    ]


def _px4_events(log: Any) -> list[tuple[int, str, str]]:
    from pyulog.px4_events import PX4Events

    events = PX4Events()
    events.set_default_json_definitions_cb(lambda _loaded: None)  # no download of definitions
    if not _unpacks_small(b"".join(log.msg_info_multiple_dict.get("metadata_events", [[]])[0])):
        raise Rejected("the event definitions inside the ULog unpack to an absurd size")
    with contextlib.redirect_stdout(io.StringIO()):
        return list(events.get_logged_events(log))


def _unpacks_small(packed: bytes) -> bool:
    decoder = lzma.LZMADecompressor()
    try:
        return len(decoder.decompress(packed, _METADATA_LIMIT)) < _METADATA_LIMIT
    except lzma.LZMAError:
        return True  # without definitions, pyulog reports the events by number


def _topics(log: Any) -> Iterable[tuple[str, list[Any]]]:
    """Yield each topic instance with its table name; a log with appended data has several parts."""
    for (topic, instance), parts in groupby(log.data_list, lambda d: (d.name, d.multi_id)):
        name = f"topic_{topic}" if topic in _RESERVED else topic
        yield (f"{name}_{instance}" if instance else name), list(parts)


def _charted(part: Any) -> list[str]:
    return [name for name in part.data if "_padding" not in name and name != "timestamp"]


def _write_topic(sink: Sink, journal: Journal, name: str, part: Any, tracks: Tracks) -> int:
    import numpy as np

    table = sink.table(name, list(part.data))
    times = part.data["timestamp"]
    for first in range(0, len(times), _ROWS_AT_ONCE):
        span = slice(first, first + _ROWS_AT_ONCE)
        table.write_all(zip(*(_cells(column[span]) for column in part.data.values()), strict=True))
        seconds = times[span].astype(np.float64) / _SECOND
        journal.uneventful(np.maximum(seconds, tracks.start))  # the first rows may have no time
        if tracks.names:
            columns = [part.data[field][span] for field in tracks.names]
            tracks.add(seconds, np.column_stack(columns).astype(np.float64))
    return len(times)


def _cells(column: Any) -> Iterable[Cell]:
    # The text of a 32-bit float is half as long as the text of the same number in 64 bits.
    return map(str, column) if column.dtype == "float32" else column.tolist()
