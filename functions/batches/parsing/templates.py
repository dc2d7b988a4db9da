"""Mines message templates with drain3; a message of a known shape costs one dictionary lookup."""

import re
from typing import NamedTuple

from batches.features import Severity
from batches.parsing.codes import find_code, severity_in, slug, sounds_critical
from batches.parsing.interface import Sink

_TEXT_LIMIT = 512
"""Characters of a message that its template uses."""
_TEMPLATES_LIMIT = 3_000
"""drain3 may compare a message with every template, so this limits time and memory."""
_SHAPES_LIMIT = 30_000
_DEPTH = 5
_SIMILARITY = 0.4
PARAMETER = "<*>"

_MASKS = (
    r'"[^"]*"',
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",  # UUID
    r"(?<![\w.])/?(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?",  # IPv4 address with port
    r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}",  # MAC address
    r"0[xX][0-9a-fA-F]+",
    r"(?<![A-Za-z])(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{6,}(?![A-Za-z])",  # a hash
    r"(?<![A-Za-z0-9])(?=[A-Za-z]*\d+[A-Za-z]+\d)[A-Za-z0-9]{6,}(?![A-Za-z0-9])",  # a random name
    r"[-+]?\d+(?:\.\d+)*",
)
_MASK = re.compile("|".join(_MASKS))
_DIGITS = b"0123456789"


class Shape(NamedTuple):
    """The properties that all messages with the same words have, for any numbers in them."""

    template: int
    severity: Severity
    critical: bool
    code: str
    """The code made of the words, for messages that contain no code."""
    states_code: bool


class Templates:
    """Groups messages by template; beyond `_TEMPLATES_LIMIT`, new shapes get template 0."""

    def __init__(self) -> None:
        from drain3.drain import Drain

        self._drain = Drain(depth=_DEPTH, sim_th=_SIMILARITY, param_str=PARAMETER)
        self._shapes: dict[bytes, Shape] = {}
        self._counts: dict[int, int] = {}

    def shape(self, message: str) -> Shape:
        """Count a message and return its shape.

        Messages that differ only in their digits have the same shape and the same template. So
        drain3 runs only for shapes that are not in the cache.
        """
        key = message[:_TEXT_LIMIT].encode("utf-8", "replace").translate(None, _DIGITS)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._learn(key, message[:_TEXT_LIMIT])
        self._counts[shape.template] += 1
        return shape

    def _learn(self, key: bytes, message: str) -> Shape:
        if len(self._shapes) >= _SHAPES_LIMIT:
            self._shapes.clear()
        template = self._mine(_MASK.sub(PARAMETER, message))
        self._counts.setdefault(template, 0)
        critical, severity = sounds_critical(message), severity_in(message)
        if critical and severity in (None, "error"):
            severity = "critical"
        shape = Shape(
            template, severity or "info", critical, slug(message), find_code(message) is not None
        )
        self._shapes[key] = shape
        return shape

    def _mine(self, masked: str) -> int:
        if len(self._drain.id_to_cluster) >= _TEMPLATES_LIMIT:
            return 0
        return int(self._drain.add_log_message(masked)[0].cluster_id)

    def __len__(self) -> int:
        return len(self._counts)

    def write(self, sink: Sink) -> None:
        """Write `templates.csv`: template_id, count and template, most frequent first."""
        table = sink.table("templates", ("template_id", "count", "template"))
        texts = {c.cluster_id: c.get_template() for c in self._drain.clusters}
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        table.write_all((f"T{n}", count, texts.get(n, PARAMETER)) for n, count in ranked)
        table.close()
