"""Reads DBC files, which describe CAN messages; a batch may contain some."""

import re
from collections.abc import Mapping
from typing import Any

from batches.features import Features
from batches.parsing.interface import LogFile, Rejected, Sink
from batches.parsing.journal import Journal

_SECTIONS = re.compile(rb"^(?:BO_ \d+ \w+|BU_\s*:|NS_\s*:)", re.MULTILINE)
_SIZE_LIMIT = 32 * 1024 * 1024

type MessageKey = tuple[int, bool]
"""The identifier of a frame, and whether it is an extended identifier."""


def is_database(head: bytes, name: str) -> bool:
    """Return whether a file is a DBC file and not a log, from its first bytes or its name."""
    return name.lower().endswith(".dbc") or _SECTIONS.search(head) is not None


def read_database(source: LogFile) -> str:
    """Return the text of a DBC file; by convention its encoding is Windows-1252.

    Raises `Rejected` if the file has more than 32 MiB.
    """
    if source.size > _SIZE_LIMIT:
        raise Rejected(f"a DBC file of more than {_SIZE_LIMIT} bytes is not read")
    with source.open() as stream:
        return stream.read().decode("cp1252", errors="replace")


def messages_of(databases: Mapping[str, str]) -> dict[MessageKey, Any]:
    """Return the cantools messages of all DBC texts by identifier; the first definition wins.

    An invalid text is skipped here; the parser of that file rejects it with the reason.
    """
    messages: dict[MessageKey, Any] = {}
    for name in sorted(databases):
        try:
            database = _load(databases[name])
        except Rejected:
            continue
        for message in database.messages:
            messages.setdefault((message.frame_id, message.is_extended_frame), message)
    return messages


def _load(text: str) -> Any:
    import cantools

    try:
        return cantools.database.load_string(text, "dbc", strict=False)
    except Exception as error:  # cantools lets all errors of its grammar through
        reason = " ".join(str(error).split())[:200]
        raise Rejected(f"this is not a valid DBC file: {reason}") from error


class DbcParser:
    """Checks a DBC file and lists its signals; a DBC file has no events."""

    name = "dbc"

    def recognises(self, head: bytes, name: str) -> bool:
        """Return whether this is a DBC file."""
        return is_database(head, name)

    def parse(self, source: LogFile, sink: Sink, databases: Mapping[str, str]) -> Features:  # noqa: ARG002
        """Write `signals.csv`; raises `Rejected` if the file is not a valid DBC."""
        messages = _load(read_database(source)).messages
        if not messages:
            raise Rejected("this DBC file describes no message")
        columns = ("message", "id", "signal", "unit", "minimum", "maximum")
        signals = [
            (message.name, f"{message.frame_id:X}", s.name, s.unit, s.minimum, s.maximum)
            for message in messages
            for s in message.signals
        ]
        sink.table("signals", columns).write_all(signals)
        return Journal(sink, self.name).finish(messages=len(messages), signals=len(signals))
