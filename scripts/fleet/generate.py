"""Generates the sample fleet: the files, and the truth about their faults."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleet import canfiles, textlogs
from fleet.badfiles import write_bad_files
from fleet.catalogue import CATALOGUE, Fault, Line
from fleet.recording import DBC, record
from fleet.truth import FaultTruth, FileTruth, Truth

NIGHT = 1_763_085_600.0
"""The start of the campaign in epoch seconds: 2025-11-14 02:00 UTC."""
FAULTS = 3
_SALT = 29
"""With it, the default seed gives a good demo: bus-off, brown-out and a bad OTA image."""
LONE_ERRORS = 2
"""Healthy vehicles with one transient error each, which is too few for any finding."""


@dataclass
class Vehicle:
    """One planned vehicle: its faults, and how its CAN bus is recorded."""

    name: str
    index: int
    faults: list[Fault] = field(default_factory=list)
    strays: list[Line] = field(default_factory=list)
    """Lines at error level without a fault."""
    start: float = NIGHT
    """The time of its clock when the campaign starts, in epoch seconds."""
    seconds: float | None = None
    """Length of the CAN recording; if None, the default of the format."""
    chatter: int = textlogs.LINES
    cranks: bool = False

    @property
    def recorder(self) -> int | None:
        """Return the index of its CAN format, or None; four of six vehicles have a recorder."""
        return self.index % 6 if self.index % 6 < len(canfiles.FORMATS) else None

    def can_carry(self, fault: Fault) -> bool:
        if fault.can is None:
            return True
        if self.recorder is None:
            return False
        return fault.can != "bus_off" or canfiles.FORMATS[self.recorder][0] != "trc"


def generate(directory: Path, *, vehicles: int = 6, seed: int = 7, bad: bool = False) -> Truth:
    """Write the batch of one fleet into `directory`, and return what was planted.

    The same arguments give the same bytes. `bad` adds files that cannot be parsed. Raises
    `ValueError` for fewer than 4 vehicles, because three faults would not fit.
    """
    if vehicles < 4:
        raise ValueError("a fleet needs at least 4 vehicles")
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((_SALT, seed))
    fleet = _plan(vehicles, rng)
    truth = Truth(seed=seed, vehicles=[vehicle.name for vehicle in fleet])
    write_fleet(directory, fleet, truth, rng)
    if bad:
        blf = next(directory / file.name for file in truth.files if file.format == "blf")
        truth.files += write_bad_files(directory, blf.read_bytes())
    truth.write(directory / "truth.json")
    return truth


def write_fleet(
    directory: Path, fleet: list[Vehicle], truth: Truth, rng: np.random.Generator
) -> None:
    """Write the files of the planned vehicles, and add files and faults to the truth."""
    for vehicle in fleet:
        truth.files += _write_vehicle(directory, vehicle, rng)
    truth.files.append(_write_dbc(directory))
    truth.faults = _faults(fleet, truth.files)


def _plan(count: int, rng: np.random.Generator) -> list[Vehicle]:
    fleet = [Vehicle(f"vehicle-{index + 1:02d}", index) for index in range(count)]
    chosen = [CATALOGUE[at] for at in rng.permutation(len(CATALOGUE))[:FAULTS]]
    # Faults that need a CAN recorder get their vehicles first; the others fit any vehicle.
    for fault in sorted(chosen, key=lambda fault: fault.can is None):
        free = [vehicle for vehicle in fleet if not vehicle.faults and vehicle.can_carry(fault)]
        for at in rng.permutation(len(free))[: fault.vehicles]:
            free[at].faults.append(fault)
    healthy = [vehicle for vehicle in fleet if not vehicle.faults]
    for at in rng.permutation(len(healthy))[:LONE_ERRORS]:
        healthy[at].strays.append(textlogs.LONE_ERROR)
    return fleet


def _write_vehicle(directory: Path, vehicle: Vehicle, rng: np.random.Generator) -> list[FileTruth]:
    text = textlogs.write_text_log(
        directory / f"{vehicle.name}.ota.log",
        vehicle.name,
        textlogs.FORMATS[vehicle.index % len(textlogs.FORMATS)],
        vehicle.start,
        vehicle.faults,
        vehicle.strays,
        rng,
        chatter=vehicle.chatter,
    )
    return [text] if vehicle.recorder is None else [_write_can(directory, vehicle, rng), text]


def _write_can(directory: Path, vehicle: Vehicle, rng: np.random.Generator) -> FileTruth:
    name, suffix, seconds, write = canfiles.FORMATS[vehicle.recorder or 0]
    path = directory / f"{vehicle.name}.can{suffix}"
    recording = record(
        vehicle.start + 60.0 * vehicle.index,
        vehicle.seconds or seconds,
        vehicle.faults,
        rng,
        cranks=vehicle.cranks,
    )
    write(recording, path)
    error_frames = int(recording.error.sum())
    return FileTruth(
        name=path.name,
        kind="can",
        format=name,
        vehicle=vehicle.name,
        lines=int(recording.times.size),
        errors=error_frames + sum(recording.out_of_range.values()),
        out_of_range=recording.out_of_range,
        error_frames=error_frames,
        size_bytes=path.stat().st_size,
    )


def _write_dbc(directory: Path) -> FileTruth:
    path = directory / "fleet.dbc"
    path.write_text(DBC, encoding="ascii", newline="\n")
    return FileTruth(path.name, "dbc", "dbc", None, size_bytes=path.stat().st_size)


def _faults(fleet: list[Vehicle], files: list[FileTruth]) -> list[FaultTruth]:
    by_fault: dict[Fault, list[str]] = {}
    for vehicle in fleet:
        for fault in vehicle.faults:
            by_fault.setdefault(fault, []).append(vehicle.name)
    return [
        FaultTruth(
            fault=fault.key,
            rule=fault.rule,
            title=fault.title,
            vehicles=names,
            files=[f.name for f in files if f.vehicle in names and f.errors],
            codes=list(fault.codes),
        )
        for fault, names in by_fault.items()
    ]
