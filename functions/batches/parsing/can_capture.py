"""Turns a stream of CAN frames of any format into tables and features."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from batches.features import Features
from batches.parsing.can_frames import FRAME_COLUMNS, Frame, FrameBlock
from batches.parsing.can_signals import Decoder
from batches.parsing.can_traffic import IDENTIFIER_COLUMNS, Identifier
from batches.parsing.dbc import messages_of
from batches.parsing.interface import Rejected, Sink
from batches.parsing.journal import Journal
from batches.parsing.movers import Tracks, write_movers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

type Key = tuple[str, str]
"""Channel and identifier."""

_IDENTIFIERS_KEPT = 10_000
_IDENTIFIERS_CHARTED = 300
_CLOCK_SLACK = 1.0
_REST: Key = ("*", "*")


class Capture:
    """Builds the tables and features of a stream of CAN frames.

    `total_events` is the number of frames. Findings about the frames are counted separately:
    `CAN_ERROR_FRAME` (error), `CAN_TIME_REVERSED` and `CAN_SILENT_<id>` (warnings). With a DBC
    there are also `<MESSAGE>_<SIGNAL>_RANGE` and, for fault signals,
    `<MESSAGE>_<SIGNAL>_<VALUE>` (errors).
    """

    def __init__(self, sink: Sink, databases: Mapping[str, str], format_name: str) -> None:
        self._sink = sink
        self._journal = Journal(sink, format_name)
        messages = messages_of(databases) if databases else {}
        self._decoder = Decoder(sink, self._journal, messages) if messages else None
        self._frames = sink.table("frames", FRAME_COLUMNS)
        self._identifiers: dict[Key, Identifier] = {}
        self._tracks: dict[Key, Tracks] = {}
        self._kinds: Counter[str] = Counter()
        self._unknown: set[str] = set()
        self._start = 0.0
        self._last_time: float | None = None
        self._total = 0

    def add(self, batch: FrameBlock) -> None:
        """Add the next frames; raises `Rejected` if a time is not finite."""
        import numpy as np

        for line, text in batch.unreadable:
            self._journal.finding(line, None, "warning", "CAN_UNREADABLE_LINE", text)
        frames = batch.frames
        if not frames:
            return
        self._frames.write_all(frames)
        times = np.fromiter((frame[0] for frame in frames), np.float64, len(frames))
        if not np.isfinite(times).all():
            raise Rejected("a frame carries a time stamp that is no time")
        if not self._total:
            self._start = float(times[0])
        self._journal.uneventful(times)
        self._check_clock(times)
        kinds = Counter(frame[7] for frame in frames)
        self._kinds.update(kinds)
        if kinds["error"]:
            self._report_errors(frames)
        groups: dict[Key, list[int]] = defaultdict(list)
        for index, frame in enumerate(frames):
            if frame[7] != "error":
                groups[frame[1], frame[2]].append(index)
        for key, indexes in groups.items():
            numbers = [self._total + index + 1 for index in indexes]
            self._add_identifier(key, [frames[i] for i in indexes], numbers, times[indexes])
        self._total += len(frames)

    def _check_clock(self, times: "NDArray[np.float64]") -> None:
        import numpy as np

        before = times[0] if self._last_time is None else self._last_time
        steps = np.diff(times, prepend=before)
        for index in np.flatnonzero(steps < -_CLOCK_SLACK).tolist():
            text = f"the clock goes back by {-steps[index]:.3f} s"
            number, at = self._total + index + 1, float(times[index])
            self._journal.finding(number, at, "warning", "CAN_TIME_REVERSED", text)
        self._last_time = float(times[-1])

    def _report_errors(self, frames: list[Frame]) -> None:
        for number, (at, channel, *_, kind) in enumerate(frames, self._total + 1):
            if kind == "error":
                text = f"error frame on {channel or 'the bus'}"
                self._journal.finding(number, at, "error", "CAN_ERROR_FRAME", text)

    def _add_identifier(
        self, key: Key, frames: list[Frame], numbers: list[int], times: "NDArray[np.float64]"
    ) -> None:
        identifier = self._identifier(key)
        identifier.extended = frames[0][3]
        for after, seconds in identifier.arrive(times):
            self._report_silence(key, numbers[after], float(times[after]), seconds)
        filled = [index for index, frame in enumerate(frames) if frame[6]]
        if len(filled) < len(frames):  # remote frames request data and carry none
            frames, times = [frames[i] for i in filled], times[filled]
            numbers = [numbers[i] for i in filled]
        if filled:
            self._add_payloads(key, frames, numbers, times)

    def _add_payloads(
        self, key: Key, frames: list[Frame], numbers: list[int], times: "NDArray[np.float64]"
    ) -> None:
        import numpy as np

        payloads = [frame[6] for frame in frames]
        width = max(map(len, payloads))
        packed = bytes.fromhex("".join([payload.ljust(width, "0") for payload in payloads]))
        matrix = np.frombuffer(packed, np.uint8).reshape(len(payloads), width // 2)
        self._identifier(key).carry(matrix)
        if self._decoder is None:
            self._chart(key, key[1], [f"byte{i}" for i in range(width // 2)], times, matrix)
            return
        decoder = self._decoder.of(*key, extended=bool(frames[0][3]))
        if decoder is None:
            self._unknown.add(key[1])
            return
        numbered = zip(numbers, times.tolist(), payloads, strict=True)
        decoded = self._decoder.add(decoder, key[1], numbered)
        if len(decoded) and decoder.signals:
            self._chart(key, decoder.name, decoder.signals, decoded[:, 0], decoded[:, 1:])

    def _chart(
        self,
        key: Key,
        group: str,
        names: list[str],
        times: "NDArray[np.float64]",
        values: "NDArray[np.float64] | NDArray[np.uint8]",
    ) -> None:
        import numpy as np

        tracks = self._tracks.get(key)
        if tracks is None:
            if len(self._tracks) == _IDENTIFIERS_CHARTED:
                return
            name = f"{key[0]}.{group}" if key[0] else group
            tracks = self._tracks[key] = Tracks(name, names, self._start)
        floats = values[:, : len(tracks.names)].astype(np.float64)
        missing = len(tracks.names) - floats.shape[1]
        if missing:
            floats = np.pad(floats, ((0, 0), (0, missing)), constant_values=np.nan)
        tracks.add(times, floats)

    def _identifier(self, key: Key) -> Identifier:
        if key not in self._identifiers and len(self._identifiers) >= _IDENTIFIERS_KEPT:
            key = _REST
        return self._identifiers.setdefault(key, Identifier())

    def _report_silence(self, key: Key, number: int, at: float, seconds: float) -> None:
        identifier = self._identifiers.get(key)
        if identifier is None:
            return  # beyond the limit, identifiers share one entry, so its gaps mean nothing
        period = identifier.period
        text = f"{key[1]} on {key[0] or 'the bus'} was silent for {seconds:.3f} s"
        usual = f", it usually comes every {period:.3f} s" if period else ""
        self._journal.finding(number, at, "warning", f"CAN_SILENT_{key[1]}", text + usual)

    def finish(self) -> Features:
        """Write the tables that need the whole log, and return the features.

        Raises `Rejected` if the file has no frame.
        """
        if not self._total:
            raise Rejected("there is no CAN frame in the file")
        end = self._last_time or 0.0
        for key, identifier in sorted(self._identifiers.items()):
            silence = identifier.silence_until(end)
            if silence and key != _REST:
                self._report_silence(key, self._total, end, silence)
        table = self._sink.table("identifiers", IDENTIFIER_COLUMNS)
        table.write_all(each.row(*key) for key, each in sorted(self._identifiers.items()))
        write_movers(self._sink, self._tracks.values())
        known = {identifier for _, identifier in self._identifiers}
        return self._journal.finish(
            frames=self._total,
            identifiers=len(known),
            channels=len({channel for channel, _ in self._identifiers}),
            error_frames=self._kinds["error"],
            remote_frames=self._kinds["remote"],
            fd_frames=self._kinds["fd"],
            decoded_messages=self._decoder.decoded if self._decoder else 0,
            undecodable_messages=self._decoder.undecodable if self._decoder else 0,
            unknown_ids=len(self._unknown) if self._decoder else len(known),
        )
