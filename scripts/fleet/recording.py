"""Generates the CAN traffic of one drive with numpy, with the effects of its faults."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fleet.catalogue import Fault

type Floats = NDArray[np.float64]
type Payload = NDArray[np.uint8]
type Mask = NDArray[np.bool_]

VOLTAGE_RANGE = (9.0, 16.0)
COOLANT_RANGE = (-40.0, 115.0)
_ERROR_BURSTS = 3
_ERRORS_PER_BURST = 60
_CRANK_SECONDS = 0.35
_OFF_SECONDS = 3.0
"""A node in bus-off sends nothing for this long."""

DBC = """VERSION "fleet 1.0"

NS_ :

BS_:

BU_: Gateway Chassis Engine Power

BO_ 170 WheelSpeeds: 8 Chassis
 SG_ WheelSpeedFR : 7|16@0+ (0.01,0) [0|250] "km/h" Gateway
 SG_ WheelSpeedFL : 23|16@0+ (0.01,0) [0|250] "km/h" Gateway
 SG_ WheelSpeedRR : 39|16@0+ (0.01,0) [0|250] "km/h" Gateway
 SG_ WheelSpeedRL : 55|16@0+ (0.01,0) [0|250] "km/h" Gateway

BO_ 37 Steering: 8 Chassis
 SG_ SteeringAngle : 7|16@0- (0.1,0) [-540|540] "deg" Gateway
 SG_ SteeringRate : 23|16@0- (1,0) [-2000|2000] "deg/s" Gateway

BO_ 944 PowerSupply: 8 Power
 SG_ BatteryVoltage : 7|16@0+ (0.01,0) [9|16] "V" Gateway
 SG_ BatteryCurrent : 23|16@0- (0.1,0) [-300|300] "A" Gateway

BO_ 964 EngineThermal: 8 Engine
 SG_ CoolantTemperature : 7|8@0+ (1,-40) [-40|115] "degC" Gateway
 SG_ EngineSpeed : 15|16@0+ (0.25,0) [0|8000] "rpm" Gateway

BO_ 1520 DiagnosticStatus: 8 Gateway
 SG_ ActiveDtc : 7|16@0+ (1,0) [0|65535] "" Gateway
 SG_ Occurrences : 23|8@0+ (1,0) [0|255] "" Gateway

CM_ SG_ 944 BatteryVoltage "Supply at the gateway; below 9 V control units reset.";
CM_ SG_ 1520 ActiveDtc "0 when no fault is active, otherwise the code without its letter E.";

VAL_ 1520 ActiveDtc 0 "NONE" 4612 "BUS_OFF" 8455 "BROWNOUT" 8707 "OVER_TEMPERATURE" ;
"""


@dataclass
class Recording:
    """Frames in time order: times (n,), identifiers (n,), payloads (n, 8), error (n,).

    `error[i]` marks an error frame; its identifier has no meaning.
    """

    times: Floats
    identifiers: NDArray[np.int64]
    payloads: Payload
    error: Mask
    out_of_range: dict[str, int] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[float, int, str, bool]]:
        """Yield time, identifier, payload as upper-case hex and whether it is an error frame."""
        text = self.payloads.tobytes().hex().upper()
        pairs = zip(
            self.times.tolist(), self.identifiers.tolist(), self.error.tolist(), strict=True
        )
        for index, (time, identifier, error) in enumerate(pairs):
            yield time, identifier, text[16 * index : 16 * index + 16], error


@dataclass
class _Drive:
    """The state that all messages of one drive share."""

    start: float
    seconds: float
    faults: Sequence[Fault]
    rng: np.random.Generator
    cranks: bool

    def clock(self, period: float) -> Floats:
        steps = np.arange(0.0, self.seconds, period)
        return steps + self.rng.uniform(0.0, period / 20, steps.size)

    def noise(self, size: int, scale: float) -> Floats:
        return self.rng.normal(0.0, scale, size)

    def has(self, effect: str) -> bool:
        return any(fault.can == effect for fault in self.faults)

    def windows(self) -> list[tuple[float, float]]:
        """Return the three intervals of the fault in the middle of the drive, in seconds."""
        starts = (0.30, 0.48, 0.66)
        return [(self.seconds * s, self.seconds * (s + 0.05)) for s in starts]

    def in_window(self, t: Floats) -> Mask:
        return _within(t, self.windows())


def record(
    start: float,
    seconds: float,
    faults: Sequence[Fault],
    rng: np.random.Generator,
    *,
    cranks: bool = False,
) -> Recording:
    """Generate one drive of `seconds` from epoch second `start`, with the CAN effects of `faults`.

    A drive that `cranks` begins with the starter motor, which lowers the voltage for a moment.
    That is healthy at any voltage.
    """
    drive = _Drive(start, seconds, faults, rng, cranks)
    out_of_range: dict[str, int] = {}
    frames = [
        (0x0AA, *_wheels(drive)),
        (0x025, *_steering(drive)),
        (0x3B0, *_power(drive, out_of_range)),
        (0x3C4, *_engine(drive, out_of_range)),
        (0x5F0, *_diagnostics(drive)),
        (0x1C4, *_unknown(drive, 0.02)),
        (0x2E4, *_unknown(drive, 0.05)),
    ]
    times = np.concatenate([t for _, t, _ in frames])
    identifiers = np.concatenate([np.full(t.size, i) for i, t, _ in frames])
    payloads = np.concatenate([payload for _, _, payload in frames])
    error = np.zeros(times.size, dtype=np.bool_)
    if drive.has("bus_off"):
        keep = ~(_silenced(drive, times) & np.isin(identifiers, (0x0AA, 0x025)))
        bursts = _bursts(drive)
        times = np.concatenate([times[keep], bursts])
        identifiers = np.concatenate([identifiers[keep], np.zeros(bursts.size, dtype=np.int64)])
        payloads = np.concatenate([payloads[keep], np.zeros((bursts.size, 8), dtype=np.uint8)])
        error = np.concatenate([error[keep], np.ones(bursts.size, dtype=np.bool_)])
    order = np.argsort(times, kind="stable")
    return Recording(
        start + times[order], identifiers[order], payloads[order], error[order], out_of_range
    )


def _speed(t: Floats, seconds: float) -> Floats:
    """Return the speed in km/h: the car starts, drives in town and on a road, and stops."""
    cruise = 48 + 22 * np.sin(t / 17.0) + 11 * np.sin(t / 5.3 + 1)
    ramp: Floats = np.clip(np.minimum(t, seconds - t) / 12.0, 0.0, 1.0)
    speed: Floats = np.maximum(cruise * ramp, 0.0)
    return speed


def _wheels(drive: _Drive) -> tuple[Floats, Payload]:
    t = drive.clock(0.01)
    speed = _speed(t, drive.seconds)
    wheels = [np.clip(speed + drive.noise(t.size, 0.08), 0.0, 250.0) / 0.01 for _ in range(4)]
    return t, _words(*wheels)


def _steering(drive: _Drive) -> tuple[Floats, Payload]:
    t = drive.clock(0.02)
    angle = 38 * np.sin(t / 7.0) + 12 * np.sin(t / 2.1) + drive.noise(t.size, 0.2)
    return t, _words(angle / 0.1, np.gradient(angle, t), np.zeros(t.size), np.zeros(t.size))


def _power(drive: _Drive, out_of_range: dict[str, int]) -> tuple[Floats, Payload]:
    t = drive.clock(0.1)
    volts = 13.9 + 0.25 * np.sin(t / 23.0) + drive.noise(t.size, 0.03)
    if drive.has("voltage_sag"):
        for begin, end in drive.windows():
            inside = (t >= begin) & (t < end)
            depth = np.sin(np.pi * (t[inside] - begin) / (end - begin))
            volts[inside] -= 6.6 * depth
    if drive.cranks:
        volts[t < _CRANK_SECONDS] -= 5.6
    raw = np.rint(volts / 0.01)
    _note(out_of_range, "BatteryVoltage", raw * 0.01, VOLTAGE_RANGE)
    amps = 18 + 9 * np.sin(t / 11.0) + drive.noise(t.size, 0.6)
    return t, _words(raw, amps / 0.1, np.zeros(t.size), np.zeros(t.size))


def _engine(drive: _Drive, out_of_range: dict[str, int]) -> tuple[Floats, Payload]:
    t = drive.clock(0.2)
    celsius = 91 - 45 * np.exp(-t / (drive.seconds / 6)) + drive.noise(t.size, 0.3)
    if drive.has("overheat"):
        celsius += 34 * np.clip((t / drive.seconds - 0.45) / 0.3, 0.0, 1.0)
    raw = np.rint(celsius + 40)
    _note(out_of_range, "CoolantTemperature", raw - 40, COOLANT_RANGE)
    rpm = 820 + 21 * _speed(t, drive.seconds) + drive.noise(t.size, 15)
    payload = np.zeros((t.size, 8), dtype=np.uint8)
    payload[:, 0] = raw.astype(np.uint8)
    payload[:, 1:3] = _words(rpm / 0.25)[:, :2]
    return t, payload


def _diagnostics(drive: _Drive) -> tuple[Floats, Payload]:
    t = drive.clock(1.0)
    code = next((fault.dtc for fault in drive.faults if fault.dtc), 0)
    active = drive.in_window(t) & (code != 0)
    payload = _words(np.where(active, code, 0))
    payload[:, 2] = active
    return t, payload


def _unknown(drive: _Drive, period: float) -> tuple[Floats, Payload]:
    """Generate traffic that no DBC describes; every real bus has some."""
    t = drive.clock(period)
    return t, drive.rng.integers(0, 256, (t.size, 8), dtype=np.uint8)


def _bursts(drive: _Drive) -> Floats:
    spells = [
        drive.rng.uniform(begin, begin + 0.4, _ERRORS_PER_BURST)
        for begin, _ in drive.windows()[:_ERROR_BURSTS]
    ]
    return np.concatenate(spells)


def _silenced(drive: _Drive, t: Floats) -> Mask:
    begins = [begin + 0.4 for begin, _ in drive.windows()]
    return _within(t, [(begin, begin + _OFF_SECONDS) for begin in begins])


def _within(t: Floats, spells: list[tuple[float, float]]) -> Mask:
    inside = np.zeros(t.size, dtype=np.bool_)
    for begin, end in spells:
        inside |= (t >= begin) & (t < end)
    return inside


def _words(*columns: Floats | NDArray[np.int64]) -> Payload:
    """Pack up to four columns as big-endian 16-bit words in two's complement, shape (n, 8)."""
    rows = np.zeros((columns[0].size, 4), dtype=">i8")
    for index, column in enumerate(columns):
        rows[:, index] = np.rint(column)
    return (rows & 0xFFFF).astype(">u2").view(np.uint8).reshape(-1, 8)


def _note(
    out_of_range: dict[str, int], signal: str, values: Floats, limits: tuple[float, float]
) -> None:
    low, high = limits
    outside = int(((values < low - 1e-9) | (values > high + 1e-9)).sum())
    if outside:
        out_of_range[signal] = outside
