"""The fault catalogue: what each fault class writes, and the diagnosis that is expected."""

from dataclasses import dataclass, field
from typing import Literal

type CanEffect = Literal["voltage_sag", "overheat", "bus_off"]


@dataclass(frozen=True)
class Line:
    """A log line of a fault: its code, its text, and how often it occurs in the night."""

    level: Literal["FATAL", "ERROR"]
    process: str
    code: str
    text: str
    """It may contain `{n}`, which becomes a small number that varies from line to line."""
    times: int


@dataclass(frozen=True)
class Fault:
    """One fault class; `rule` is the key of the expected finding."""

    key: str
    rule: str
    title: str
    lines: tuple[Line, ...]
    can: CanEffect | None = None
    vehicles: int = 1
    dtc: int = 0
    """Diagnostic trouble code that the gateway sends on CAN while the fault lasts."""
    codes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", tuple(line.code for line in self.lines))


CATALOGUE = (
    Fault(
        key="battery_brownout",
        rule="power",
        title="Supply voltage sag or brown-out",
        can="voltage_sag",
        dtc=0x2107,
        lines=(
            Line("FATAL", "power", "E2107", "BROWNOUT supply voltage 7.{n} V below 9.0 V", 14),
            Line("ERROR", "power", "E2101", "UNDERVOLTAGE 8.{n} V, flashing postponed", 31),
        ),
    ),
    Fault(
        key="ota_signature_mismatch",
        rule="ota_failure",
        title="OTA update rejected and rolled back",
        vehicles=2,
        lines=(
            Line("FATAL", "ota-agent", "E3301", "SIGNATURE_MISMATCH image gw-4.2.{n}, bad key", 4),
            Line("ERROR", "ota-agent", "E3309", "ROLLBACK slot B abandoned, booting slot A", 4),
        ),
    ),
    Fault(
        key="can_bus_off",
        rule="bus",
        title="CAN bus disturbed",
        can="bus_off",
        dtc=0x1204,
        lines=(
            Line("FATAL", "canmgr", "E1204", "BUS_OFF can0 controller is bus-off, TEC=256", 9),
            Line("ERROR", "canmgr", "E1201", "ERROR_PASSIVE can0 TEC=13{n}", 22),
        ),
    ),
    Fault(
        key="storage_full",
        rule="storage",
        title="Storage full or failing",
        lines=(
            Line("FATAL", "ota-agent", "E5010", "NO_SPACE /data is full, download refused", 12),
            Line("ERROR", "logd", "E5012", "WRITE_FAILED chunk {n} not written to /data", 40),
        ),
    ),
    Fault(
        key="gnss_loss",
        rule="positioning",
        title="GNSS or positioning lost",
        lines=(
            Line("FATAL", "navd", "E6003", "GNSS_LOST no fix for 1{n} s, dead reckoning", 11),
            Line("ERROR", "navd", "E6001", "GNSS_DEGRADED {n} satellites in view", 26),
        ),
    ),
    Fault(
        key="watchdog_reset",
        rule="watchdog",
        title="Crash or watchdog reset",
        lines=(
            Line("FATAL", "supervisor", "E7001", "WATCHDOG_RESET telemetryd silent for 3{n} s", 6),
            Line("ERROR", "supervisor", "E7004", "CRASH telemetryd ended by SIGSEGV", 6),
        ),
    ),
    Fault(
        key="coolant_overtemp",
        rule="thermal",
        title="Over-temperature",
        can="overheat",
        dtc=0x2203,
        lines=(
            Line("FATAL", "thermal", "E2203", "OVER_TEMPERATURE coolant 12{n} degC, derating", 10),
            Line("ERROR", "thermal", "E2201", "COOLANT_HIGH 11{n} degC, fan at 100 percent", 24),
        ),
    ),
    Fault(
        key="certificate_expired",
        rule="authentication",
        title="Authentication or certificate failure",
        lines=(
            Line("FATAL", "ota-agent", "E4403", "CERT_EXPIRED client certificate, day {n}", 7),
            Line("ERROR", "ota-agent", "E4401", "AUTH_FAILED backend answered 401", 18),
        ),
    ),
    Fault(
        key="out_of_memory",
        rule="memory",
        title="Memory exhausted",
        lines=(
            Line("FATAL", "supervisor", "E7102", "OUT_OF_MEMORY mapd killed at 51{n} MB", 5),
            Line("ERROR", "mapd", "E7105", "ALLOCATION_FAILED tile cache, {n} MB", 15),
        ),
    ),
)
