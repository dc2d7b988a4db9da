"""The truth about the generated files: what was planted in them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

type Kind = Literal["can", "text", "dbc", "bad"]


@dataclass
class FileTruth:
    """One file on disk."""

    name: str
    kind: Kind
    format: str
    vehicle: str | None
    lines: int = 0
    """Log lines, or CAN frames."""
    errors: int = 0
    """Text: lines at ERROR or above. CAN: error frames plus decoded values out of range."""
    warnings: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    """Text only: error code -> number of lines with it."""
    out_of_range: dict[str, int] = field(default_factory=dict)
    """CAN only: signal -> number of frames whose decoded value is outside the DBC's range."""
    error_frames: int = 0
    size_bytes: int = 0


@dataclass
class FaultTruth:
    """One planted fault: its vehicles and files, and the finding that is expected."""

    fault: str
    rule: str
    """Key of the expected finding."""
    title: str
    vehicles: list[str]
    files: list[str]
    codes: list[str]


@dataclass
class Truth:
    """Everything that was planted; `truth.json` has the same content."""

    seed: int
    vehicles: list[str]
    files: list[FileTruth] = field(default_factory=list)
    faults: list[FaultTruth] = field(default_factory=list)

    @property
    def healthy_vehicles(self) -> list[str]:
        faulty = {vehicle for fault in self.faults for vehicle in fault.vehicles}
        return [vehicle for vehicle in self.vehicles if vehicle not in faulty]

    @property
    def expected_rules(self) -> set[str]:
        return {fault.rule for fault in self.faults}

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
