"""The rule table: the causes of error codes and messages in vehicle, OTA and edge logs.

Codes and messages are first folded to upper-case words: `BatteryVoltage_RANGE` becomes
`BATTERY_VOLTAGE_RANGE`, and "battery voltage: out of range" becomes
`BATTERY_VOLTAGE_OUT_OF_RANGE`. So one pattern matches both. The first rule that matches a code
explains it, so specific rules come first.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

type Grade = Literal["critical", "high", "medium", "low"]

_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_A_WORD = re.compile(r"[^A-Z0-9]+")
_FOLDED_LIMIT = 200
_TROUBLE = (
    "ERRORS?|FAULTS?|FAIL(?:URES?|ED)?|EXPIRED|LOST|DROPPED|CRASH(?:ES)?|PANICS?|ERROR_FRAMES?"
)
_DENIED = re.compile(rf"(?:^|_)(?:NO|0|ZERO|WITHOUT)_(?:{_TROUBLE})(?=_|$)")
"""Matches trouble that a message denies, for example `NO_ERRORS`."""
_LEVEL = re.compile(r"^(?:ERROR|FATAL|CRITICAL)_")
_REASSURING = re.compile(
    r"(?:^|_)(?:OK|PASS|PASSED|SUCCE(?:SS|SSFUL|SSFULLY|EDED)|HEALTHY|READY|ARMED|ENABLED|LOADED|"
    r"INSTALLED|APPLIED|CONFIGURED|INITIALI[SZ]ED|NOTHING)(?=_|$)"
)
_TROUBLED = re.compile(
    r"(?:^|_)(?:NOT(?!HING)|CANNOT|UNABLE|FAIL|ERR|INVALID|LOST|LOSS|TIME|ABORT|REJECT|DENIED|BAD|KILL|"
    r"MISMATCH|UNDER|OVER|LOW|HIGH|RESET|SHUT)"
)


@dataclass(frozen=True)
class Rule:
    """One known cause: the pattern that shows it, its description, and what to do."""

    key: str
    title: str
    severity: Grade
    specificity: float
    """How surely the pattern means this cause and no other, 0 to 1."""
    pattern: str
    """A regular expression; it is compiled at first use, because most steps never need it."""
    root_cause: str
    action: str
    min_count: int = 1
    """Fewer occurrences than this are noise and give no finding."""


def fold(text: str) -> str:
    """Return the words of a code or message in upper case, joined by underscores."""
    words = _CAMEL_BOUNDARY.sub("_", text[:_FOLDED_LIMIT]).upper()
    return _NOT_A_WORD.sub("_", words).strip("_")


@lru_cache(maxsize=4096)
def rule_for(text: str) -> Rule | None:
    """Return the first rule that matches this code or message.

    Return None if no rule matches, or if the text says that something works.
    """
    if is_reassuring(text):
        return None
    folded = _without_denials(text)
    return next((rule for rule in RULES if re.search(rule.pattern, folded)), None)


def is_reassuring(text: str) -> bool:
    """Return whether a code or message says that something works."""
    folded = _without_denials(text)
    return bool(_REASSURING.search(folded) and not _TROUBLED.search(_LEVEL.sub("", folded)))


def is_denial(text: str) -> bool:
    """Return whether a code or message denies a trouble, for example "no errors"."""
    return bool(_DENIED.search(fold(text)))


def _without_denials(text: str) -> str:
    return _DENIED.sub("_", fold(text))


def _near(subject: str, trouble: str) -> str:
    """Return a pattern for a subject, at most four words, and then its trouble."""
    # Log lines are hostile input. The repetition is bounded, and word and separator do not
    # overlap, so this pattern cannot backtrack exponentially.
    return rf"(?:{subject})[A-Z0-9]*(?:_[A-Z0-9]+){{0,4}}_(?:{trouble})"


def _about(subject: str, trouble: str) -> str:
    """Return a pattern for a subject near its trouble, in either order."""
    return f"{_near(subject, trouble)}|{_near(trouble, subject)}"


def _out_of_range(subject: str) -> str:
    """Return a pattern for the range code of a decoded signal.

    The subject may be inside a longer word of the signal's name.
    """
    return rf"[A-Z0-9]*(?:{subject})[A-Z0-9]*(?:_[A-Z0-9]+){{0,3}}_RANGE(?:_|$)"


def _words(*alternatives: str) -> str:
    return rf"(?:^|_)(?:{'|'.join(alternatives)})"


RULES = (
    Rule(
        key="authentication",
        title="Authentication or certificate failure",
        severity="high",
        specificity=0.85,
        pattern=_words(
            "(?:LOGIN|LOGON)_(?:FAIL|DENIED|REJECT|ERR)",
            _about("AUTH|CREDENTIAL|PASSWORD|PASSWD", "FAIL|DENIED|REJECT|ERROR|INVALID|EXPIRED"),
            _about(
                "CERT|TLS|SSL|TOKEN|X509",
                "FAIL|EXPIRED|INVALID|REJECT|UNTRUSTED|REVOKED|PROBLEM|UNKNOWN_CA|SELF_SIGNED",
            ),
            "HANDSHAKE_FAIL|INVALID_KEY|WRONG_KEY|HTTP_40[13](?:_|$)|(?:UN|NOT_)AUTHORI[SZ]ED",
            "UNAUTHENTICATED|ACCESS_DENIED|FORBIDDEN",
        ),
        root_cause="The vehicle could not prove its identity to the backend, or did not trust it: "
        "an expired or revoked certificate, a rotated key, or a clock that is wrong.",
        action="Check certificate validity and the vehicle clock; rotate the credentials of the "
        "vehicles named, then watch one of them reconnect.",
        min_count=2,
    ),
    Rule(
        key="ota_failure",
        title="OTA update rejected and rolled back",
        severity="critical",
        specificity=0.9,
        pattern=_words(
            _near(
                "SIGNATURE|CHECKSUM|HASH|DIGEST|SHA256|IMAGE|MANIFEST|PAYLOAD|BUNDLE|ARTIFACT",
                "MISMATCH|FAIL|INVALID|BAD|CORRUPT|ERROR|REJECT|NOT_MATCH",
            ),
            _near("FAIL|CANNOT|UNABLE", "SIGNATURE|CHECKSUM|DIGEST|MANIFEST"),
            _near(
                "OTA|UPDATE|UPGRADE|INSTALL|FLASHING|FLASH_PROG|FIRMWARE|SOFTWARE_PART",
                "FAIL|REJECT|ABORT|MISMATCH",
            ),
            _near("INSTALL", "ERROR"),
            _near("SLOT", "BAD|ABANDON|UNBOOTABLE|FALL"),
            "ROLL(?:ED|ING)?_?BACK|OTA_ERR|SW_?UPDATE_FAIL|NOT_INSTALLING|REVERTING",
        ),
        root_cause="The update image did not verify on the vehicle (signature or checksum "
        "mismatch) and the boot chain fell back to the previous slot: a damaged download, an "
        "image built for another target, or a signing key the vehicle does not hold.",
        action="Pause the campaign for this image; compare its digest and signing key with the "
        "release manifest; republish and retry on one vehicle before the fleet.",
    ),
    Rule(
        key="power",
        title="Supply voltage sag or brown-out",
        severity="critical",
        specificity=0.9,
        pattern=_words(
            "BROWN_?OUT|UNDER_?VOLT|LOW_(?:BATT|VOLT)|VBAT_LOW|POWER_FAIL|P056[0-3](?:_|$)|LOAD_SHED",
            _out_of_range("BATT|VOLT|VBAT"),
            _near(
                "BATT|VOLT|VBAT|VSYS|POWER|SUPPLY|RAIL|KL_?30",
                "LOW|CRITICAL|LOSS|LOST|FAIL|BELOW|DROP|SAG|DIP|EMPTY|COLLAPS|UNDER(?:_|$)",
            ),
            _near("LOSS|DROP", "VOLT|POWER|SUPPLY"),
        ),
        root_cause="The supply voltage fell below what the control units need: a weak battery, a "
        "corroded ground or a load that starts while the engine is off.",
        action="Load-test the battery and check ground straps and the charging circuit; keep "
        "updates from starting below the voltage limit.",
    ),
    Rule(
        key="thermal",
        title="Over-temperature",
        severity="high",
        specificity=0.85,
        pattern=_words(
            "OVER_?(?:TEMP|HEAT)|THERMAL_(?:SHUTDOWN|TRIP|RUNAWAY|THROTTL)|P021[78](?:_|$)",
            "TOO_HOT|TRIP_POINT|CRITICAL_TEMP|THERMAL_DERAT",
            _near("FAN", "FAIL|STUCK|STALL|NOT_|BLOCK"),
            _out_of_range("TEMP|COOLANT"),
            _near(
                "TEMP|THERMAL|COOLANT|HEATSINK",
                "HIGH|CRITICAL|SHUTDOWN|OUT_OF|LIMIT_(?:REACH|EXCEED)|EXCEED|ABOVE|TRIP|HOT|OVER",
            ),
        ),
        root_cause="A temperature left its permitted range and stayed there: coolant loss, a "
        "stuck thermostat, a failed fan, or a sensor that reads too high.",
        action="Inspect coolant level, pump, thermostat and fan of the vehicle; compare the "
        "sensor with a second one before parts are replaced.",
    ),
    Rule(
        key="memory",
        title="Memory exhausted",
        severity="high",
        specificity=0.9,
        pattern=_words(
            "OUT_OF_MEMORY|OOM(?:_|$)|ERRNO_12(?:_|$)|CANNOT_ALLOCATE|BAD_ALLOC|ENOMEM",
            _near("MALLOC|ALLOC|MEMORY|HEAP", "FAIL|EXHAUST|LIMIT_(?:REACH|EXCEED)|LOW|NULL|FULL"),
            _near("FAIL|CANNOT|UNABLE", "ALLOCAT|MALLOC"),
        ),
        root_cause="A process used up the memory of its control unit and allocations failed or "
        "the kernel killed it: a leak, or a workload the unit was not sized for.",
        action="Find the growing process in the log before the first failure; bound its buffers "
        "or its cgroup, and restart it under a supervisor meanwhile.",
    ),
    Rule(
        key="storage",
        title="Storage full or failing",
        severity="high",
        specificity=0.9,
        pattern=_words(
            "NO_SPACE|ENOSPC|ERRNO_(?:5|28|30)(?:_|$)|DISK_FULL|QUOTA_EXCEEDED|EIO(?:_|$)|IO_ERR|I_O_ERR",
            "INPUT_OUTPUT_ERR|READ_ONLY_(?:FILE|FS)|REMOUNT\\w*_READ_ONLY|WRITE_FAIL|BAD_BLOCK",
            _near(
                "STORAGE|DISK|EMMC|NAND|SD_?CARD|PARTITION|FILE_?SYSTEM|EXT4|MMCBLK|MTD",
                "FULL|FAIL|ERR|CORRUPT|EXHAUST|WORN|I_O",
            ),
            _near("CARD", "STUCK|FAIL|ERR|CORRUPT"),
            _near("VOLUME|PARTITION|MOUNT", "FULL|100|FAIL"),
        ),
        root_cause="Writes fail because the storage of the unit is full, or because its flash "
        "memory is wearing out.",
        action="Free the log and download partitions and enable rotation; read the wear level "
        "of the flash, and replace the unit when write errors remain.",
    ),
    Rule(
        key="bus",
        title="CAN bus disturbed",
        severity="critical",
        specificity=0.85,
        pattern=_words(
            "ERROR_?FRAME|BUS_?(?:OFF|ERR|HEAVY|PASSIVE)|ERROR_PASSIVE|ARBITRATION_LOST",
            r"U0[01]\d\d(?:_|$)|CAN_ERR|LOST_COMMUNICATION|COMMUNICATION_LOST|TX_ERR|TEC_\d",
            _near("NODE|FRAME", "NO_ACK|NOT_ACKNOWLEDGE|MISSING_ACK"),
            # "can" is also a verb: the words after it decide.
            r"CAN\d*(?!_(?:NOT|BE)_)(?:_[A-Z0-9]+){0,3}_(?:SILENT|TIMEOUT|LOST|MISSING|OFF|NO_ACK|ERR)",
        ),
        root_cause="Control units stop hearing each other: error frames push a node to bus-off "
        "or identifiers fall silent. Usual causes are a loose connector, a missing "
        "termination, a wrong bit rate or one node that babbles.",
        action="Measure the termination (60 ohm) and inspect connectors near the silent node; "
        "unplug nodes one at a time until the error frames end.",
        min_count=3,
    ),
    Rule(
        key="watchdog",
        title="Crash or watchdog reset",
        severity="critical",
        specificity=0.85,
        pattern=_words(
            "WATCHDOG|WDT|WDOG|PANIC|KERNEL_(?:PANIC|OOPS|BUG)|SEG_?FAULT|SIGSEGV|SIGABRT",
            "SEGMENTATION_FAULT|CORE_DUMP|HARD_?FAULT|CRASH|UNHANDLED_EXCEPTION|NULL_POINTER",
            "UNEXPECTED_RE(?:SET|BOOT|START)|LOCKUP|DEADLOCK|KERNEL_TERMINATED|EXITED_ABNORMALLY",
            r"MISSED\w{0,20}_DEADLINE|FATAL_(?:SIGNAL|EXCEPTION)|SIGNAL_(?:6|11)(?:_|$)|ABRT",
            _near(
                "PROCESS|SERVICE|TASK|THREAD|DAEMON",
                "DIED|KILLED|ABORTED|HUNG|STUCK|STARV|TERMINATED|NOT_RESPOND",
            ),
            r"RESTARTED_\d+_TIMES|RESTART_LOOP",
        ),
        root_cause="Software on a control unit hung or crashed and was reset: a deadlock, "
        "starvation of the task that feeds the watchdog, or a fault in native code.",
        action="Collect the core dump and reset reason, match them with the build, and hold the "
        "release if it is new on the vehicles named.",
    ),
    Rule(
        key="processor",
        title="Processor exception or memory hardware error",
        severity="critical",
        specificity=0.85,
        pattern=_words(
            "MACHINE_CHECK|MCE(?:_|$)|ILLEGAL_INSTRUCTION|PRIVILEGED_INSTRUCTION|UNCORRECT(?:ABLE|ED)",
            "(?:DATA|INSTRUCTION|PREFETCH)_(?:TLB_ERROR|TLB_MISS|STORAGE|ABORT)",
            _near("PARITY|ECC|EDAC|DDR|DRAM|CACHE", "ERR|FAIL"),
        ),
        root_cause="A processor stopped at an exception that correct software on sound hardware "
        "never raises: a defective memory or cache, or a program built for another unit.",
        action="Run the memory test of the unit and read its error counters; take it out of "
        "service when they grow, otherwise compare the program with its release.",
    ),
    Rule(
        key="positioning",
        title="GNSS or positioning lost",
        severity="high",
        specificity=0.85,
        pattern=_words(
            _about(
                "GNSS|GPS|POSITION|SATELLITE|RTK|EKF|LOCATION|ANTENNA",
                "LOST|LOSS|FAIL|TIMEOUT|NO_FIX|NO_SIGNAL|JAM|UNAVAIL|DEGRAD|GLITCH|INVALID|RESET|ERR"
                "|POOR|NOT_VALID|OPEN|SHORT(?:_|$)",
            ),
            "NO_(?:GPS|GNSS|FIX)|LOST_(?:GPS|GNSS|FIX)|FIX_LO",
            _near("TIME_TO_(?:FIRST_)?FIX|TTFF", "EXCEED|LONG|OVER|ABOVE"),
        ),
        root_cause="The position solution was lost: a covered, jammed or disconnected antenna, "
        "or a receiver that restarts.",
        action="Check antenna cable and its supply current; compare signal strength with a "
        "healthy vehicle at the same place to tell interference from a defect.",
        min_count=4,  # tunnels and garages interrupt the reception briefly
    ),
    Rule(
        key="dropout",
        title="Gaps in the recording",
        severity="medium",
        specificity=0.8,
        pattern=_words("DROPOUT|ULOG_DROPOUT|LOG_(?:GAP|LOST)|RECORDING_GAP"),
        root_cause="The logger could not keep up with its storage and lost data: a slow or worn "
        "card, or too many topics at too high a rate.",
        action="Use a faster card or lower the logging profile; treat conclusions about the "
        "gaps with care.",
        min_count=2,
    ),
    Rule(
        key="network",
        title="Connection lost or timing out",
        severity="medium",
        specificity=0.75,
        pattern=_words(
            "TIMED?_?OUT|ETIMEDOUT|ECONN|ERRNO_1(?:0[1-4]|1[0-3])(?:_|$)|UNREACHABLE|HOST_DOWN|NO_CARRIER|NO_ROUTE",
            _near("ERROR|FAIL|UNABLE|CANNOT", "CONNECT|CONTACT|RESOL"),
            _near(
                "ERROR|FAIL",
                "(?:READ|SEND|RECV|RECEIV|WRIT)[A-Z]*_(?:MESSAGE|PACKET|SOCKET|STREAM)",
            ),
            "DISCONNECTED|HTTP_50[234]|GATEWAY_TIME|LINK_(?:IS_)?NOT_READY|NO_DHCP|NO_SERVICE",
            _near(
                "CONN|NETWORK|SOCKET|LINK|MODEM|DNS|HTTP|MQTT|LTE|BROKER|TELEMETRY|UPLOAD|DOWNLOAD",
                "FAIL|LOST|LOSS|TIMEOUT|TIMED|REFUSED|RESET|UNREACH|DOWN|CLOSED|ERR",
            ),
        ),
        root_cause="The link to the backend fails or times out again and again: poor coverage, "
        "a modem that resets, or an endpoint that is overloaded.",
        action="Compare with other vehicles in the same area and hour; if they are well, check "
        "modem and SIM, otherwise check the endpoint.",
        min_count=5,  # single timeouts are normal on a mobile link
    ),
    Rule(
        key="sensor_range",
        title="Sensor missing or out of range",
        severity="medium",
        specificity=0.75,
        pattern=_words(
            "[A-Z0-9_]*_RANGE(?:_|$)|OUT_OF_RANGE|IMPLAUSIBLE|VOTED_OUT",
            _near("NO|MISSING", "SENSOR|ACCEL|GYRO|BARO|MAGNETOMETER|COMPASS|LIDAR|RADAR|CAMERA"),
            _near(
                "SENSOR|SIGNAL|ACCEL|GYRO|IMU|BARO|MAGNETOMETER|COMPASS|LIDAR|RADAR|CAMERA",
                "FAIL|STUCK|INVALID|IMPLAUSIBLE|RANGE|ERR|MISSING|NO_|NOT_FOUND|STALE|INCONSISTENT"
                "|WRONG|FAULT|TIMEOUT|CORRUPT|CHECKSUM|CRC",
            ),
        ),
        root_cause="A sensor does not answer, or signals leave the range their database permits: "
        "a defective sensor or wiring, or a database that does not belong to this vehicle.",
        action="Confirm that the DBC matches the vehicle variant; then check the sensor and its "
        "wiring against a second source of the same quantity.",
        min_count=2,
    ),
)
RULE_BY_KEY = {rule.key: rule for rule in RULES}
