"""Decodes CAN frames with the messages of DBC files, and reports bad values."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from batches.parsing.dbc import MessageKey
from batches.parsing.interface import Cell, Sink
from batches.parsing.journal import Journal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAYLOADS_KEPT = 4_096
_RANGE_WINDOW = 1.0
_FAULT_NAME = re.compile(r"DTC|FAULT|ERROR", re.IGNORECASE)
_NOT_A_NAME = re.compile(r"\W+")


class Decoded(NamedTuple):
    """The values of one payload, the indexes of those out of range, and the fault values."""

    values: tuple[float | None, ...]
    out_of_range: tuple[int, ...]
    faults: tuple[int, ...]


class MessageDecoder:
    """Decodes the frames of one message on one channel; it caches equal payloads."""

    def __init__(self, message: Any, channel: str) -> None:
        self.name = str(message.name)
        self.channel = channel
        self.signals = [str(signal.name) for signal in message.signals]
        self._message = message
        self._payloads: dict[str, Decoded] = {}
        self._ranges = [_range(signal) for signal in message.signals]
        self._faults = [i for i, s in enumerate(message.signals) if _is_fault(s)]
        self._reported: dict[int, float] = {}
        self._raised: dict[int, int] = dict.fromkeys(self._faults, 0)

    def decode(self, payload: str) -> Decoded:
        """Return the values of a payload (hex); a signal beyond a short payload is None."""
        decoded = self._payloads.get(payload)
        if decoded is None:
            if len(self._payloads) >= _PAYLOADS_KEPT:
                self._payloads.clear()
            decoded = self._payloads[payload] = self._decode(bytes.fromhex(payload))
        return decoded

    def _decode(self, payload: bytes) -> Decoded:
        by_name = self._message.decode(payload, decode_choices=False, allow_truncated=True)
        values = tuple(by_name.get(name) for name in self.signals)
        outside = tuple(
            index
            for index, (value, (low, high)) in enumerate(zip(values, self._ranges, strict=True))
            if value is not None and not low <= value <= high
        )
        return Decoded(values, outside, tuple(int(values[i] or 0) for i in self._faults))

    def judge(self, journal: Journal, number: int, at: float, decoded: Decoded) -> None:
        """Report values out of range and raised faults.

        A signal out of range is reported at most once per second, a fault when its value changes.
        """
        for index in decoded.out_of_range:
            if at - self._reported.get(index, -_RANGE_WINDOW) >= _RANGE_WINDOW:
                self._reported[index] = at
                self._report_range(journal, number, at, index, decoded.values[index])
        for index, value in zip(self._faults, decoded.faults, strict=True):
            if value != self._raised[index]:
                self._raised[index] = value
                if value:
                    self._report_fault(journal, number, at, index, value)

    def _report_range(
        self, journal: Journal, number: int, at: float, index: int, value: float | None
    ) -> None:
        signal = self._message.signals[index]
        code = f"{self.name}_{signal.name}_RANGE".upper()
        unit = f" {signal.unit}" if signal.unit else ""
        text = (
            f"{self.name}.{signal.name} is {value:g}{unit}, "
            f"outside {signal.minimum} to {signal.maximum}"
        )
        journal.finding(number, at, "error", code, text)

    def _report_fault(
        self, journal: Journal, number: int, at: float, index: int, value: int
    ) -> None:
        signal = self._message.signals[index]
        name = str((signal.choices or {}).get(value, value))
        code = _NOT_A_NAME.sub("_", f"{self.name}_{signal.name}_{name}").upper()
        text = f"{self.name}.{signal.name} changed to {name} on {self.channel}"
        journal.finding(number, at, "error", code, text)


def _range(signal: Any) -> tuple[float, float]:
    slack = abs(signal.scale) / 2  # a limit between two raw values is meant to include both
    low = float("-inf") if signal.minimum is None else signal.minimum - slack
    high = float("inf") if signal.maximum is None else signal.maximum + slack
    return (low, high) if low < high else (float("-inf"), float("inf"))


def _is_fault(signal: Any) -> bool:
    discrete = signal.choices or (signal.scale == 1 and not signal.unit and not signal.is_float)
    return bool(discrete) and _FAULT_NAME.search(signal.name) is not None


class Decoder:
    """Writes `signals_<Message>.csv` for each message of the DBC files that occurs in the log."""

    def __init__(self, sink: Sink, journal: Journal, messages: Mapping[MessageKey, Any]) -> None:
        self.decoded = 0
        self.undecodable = 0
        self._sink = sink
        self._journal = journal
        self._messages = messages
        self._decoders: dict[tuple[str, str], MessageDecoder | None] = {}
        self._tables: dict[str, str] = {}

    def of(self, channel: str, identifier: str, extended: bool) -> MessageDecoder | None:
        """Return the decoder of an identifier, or None if no DBC describes it."""
        key = (channel, identifier)
        if key not in self._decoders:
            message = self._messages.get((int(identifier, 16), extended))
            self._decoders[key] = MessageDecoder(message, channel) if message else None
        return self._decoders[key]

    def add(
        self,
        decoder: MessageDecoder,
        identifier: str,
        frames: Iterable[tuple[int, float, str]],
    ) -> "NDArray[np.float64]":
        """Decode frames (number, time in seconds, payload in hex), write and check their values.

        Returns an array of shape (decoded frames, 1 + signals); the first column is the time.
        """
        import cantools
        import numpy as np

        rows: list[tuple[Cell, ...]] = []
        for number, at, payload in frames:
            try:
                decoded = decoder.decode(payload)
            except (cantools.Error, ValueError, OverflowError):
                self.undecodable += 1
                continue
            rows.append((at, decoder.channel, *decoded.values))
            decoder.judge(self._journal, number, at, decoded)
        self.decoded += len(rows)
        columns = ("timestamp", "channel", *decoder.signals)
        self._sink.table(self._table_name(decoder, identifier), columns).write_all(rows)
        values = [(row[0], *row[2:]) for row in rows]
        return np.array(values, dtype=np.float64).reshape(len(rows), len(decoder.signals) + 1)

    def _table_name(self, decoder: MessageDecoder, identifier: str) -> str:
        name = f"signals_{_NOT_A_NAME.sub('_', decoder.name)}"
        if self._tables.setdefault(name, identifier) == identifier:
            return name
        return f"{name}_{identifier}"  # two DBC files have different messages of the same name
