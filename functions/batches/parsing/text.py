"""Parses text logs of any logger: levels, error codes, time stamps and message templates."""

from collections import Counter
from collections.abc import Mapping

from batches.features import Features
from batches.parsing import text_layouts
from batches.parsing.codes import find_code, severity
from batches.parsing.content import is_text
from batches.parsing.interface import Cell, LogFile, Sink
from batches.parsing.journal import STORED_MESSAGE_LIMIT, Journal
from batches.parsing.lines import blocks, encoding_of
from batches.parsing.templates import Templates

_COLUMNS = ("line", "timestamp", "level", "code", "template_id", "message")
_LINES_TO_DETECT = 500
_HEAD_BYTES = 4
_LOUD = ("critical", "error", "warning")


class TextParser:
    """Parses text logs; each line that is not blank is an event.

    The header of a line states its level; without a header, the words of the message decide. Words
    such as "crash" make an error critical, but never a line of the level information.
    """

    name = "text"

    def recognises(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """Return whether the bytes look like text."""
        return is_text(head)

    def parse(self, source: LogFile, sink: Sink, databases: Mapping[str, str]) -> Features:  # noqa: ARG002
        """Write `events.csv` with every line, and `templates.csv`."""
        with source.open() as stream:
            encoding = encoding_of(stream.read(_HEAD_BYTES))
        with source.open() as stream:
            reader: _Reader | None = None
            for lines, _ in blocks(stream, encoding):
                if reader is None:
                    layout = text_layouts.detect(lines[:_LINES_TO_DETECT])
                    reader = _Reader(sink, layout)
                reader.add(lines)
        return (reader or _Reader(sink, text_layouts.PLAIN)).finish()


class _Reader:
    def __init__(self, sink: Sink, layout: text_layouts.Layout) -> None:
        self._sink = sink
        self._journal = Journal(sink, TextParser.name, columns=_COLUMNS)
        self._layout = layout
        self._templates = Templates()
        self._levels: Counter[str] = Counter()
        self._lines = 0

    def add(self, lines: list[str]) -> None:
        """Add the next lines.

        This loop runs for every line of files of gigabytes, so it does only what is necessary.
        """
        header, clock = self._layout.pattern.match, self._layout.clock
        shape_of, count_at = self._templates.shape, self._journal.timeline.add
        rows: list[tuple[Cell, ...]] = []
        for number, line in enumerate(lines, self._lines + 1):
            line = line[:STORED_MESSAGE_LIMIT]
            timestamp, word, message = None, "", line
            match = header(line)
            if match:
                time, word = match.group("time", "level")
                timestamp = clock(time) if time else None
                message = line[match.end() :]
            message = message.strip()
            if not message and not line.strip():
                continue
            shape = shape_of(message)
            level = (severity(word) if word else None) or shape.severity
            code = ""
            if level in _LOUD:
                if level == "error" and shape.critical:
                    level = "critical"
                code = (shape.states_code and find_code(message)) or shape.code
                self._journal.counter.finding(number, timestamp, level, code, message)
            count_at(timestamp, level)
            rows.append((number, timestamp, level, code, f"T{shape.template}", message))
        self._lines += len(lines)
        self._store(rows)

    def _store(self, rows: list[tuple[Cell, ...]]) -> None:
        self._journal.table.write_all(rows)
        self._levels.update(str(row[2]) for row in rows)
        times = [row[1] for row in rows if isinstance(row[1], float)]
        self._journal.counter.uneventful(
            len(rows), min(times, default=None), max(times, default=None)
        )

    def finish(self) -> Features:
        """Write the templates and return the features."""
        self._templates.write(self._sink)
        return self._journal.finish(
            wall_clock=self._layout.wall_clock,
            lines=self._lines,
            templates=len(self._templates),
            layout=self._layout.name,
            levels=[f"{level}={count}" for level, count in self._levels.most_common()],
        )
