"""V-08: a diagnosis names causes from features, with evidence and a confidence to recompute."""

import time

import pytest
from tests.unit.analysis.samples import failed, parsed

from batches.analysis.diagnosis import Diagnosis, diagnose
from batches.analysis.findings import CONFIDENCE_CEILING, confidence
from batches.analysis.rules import RULES, fold, rule_for
from batches.analysis.statistics import ParsedFile, gather_statistics

# The output of parsers: named codes, folded signal names, slugs of whole messages.
SPOKEN = {
    "authentication": ["AUTH_FAILED", "TLS handshake failed", "login failed for gw"],
    "ota_failure": ["SIGNATURE_MISMATCH", "OTA_INSTALL_FAILED", "rolled back to slot A"],
    "power": ["BROWNOUT", "POWERSUPPLY_BATTERYVOLTAGE_RANGE", "VBAT_RANGE", "P0562", "battery low"],
    "thermal": [
        "OVER_TEMPERATURE",
        "CoolantTemperature_RANGE",
        "MOTOR_OILTEMP_RANGE",
        "thermal shutdown",
    ],
    "memory": ["OUT_OF_MEMORY", "oom-killer invoked", "malloc of 12 MB failed"],
    "storage": [
        "NO_SPACE",
        "ERRNO_28",
        "No space left on device",
        "EXT4-fs error",
        "I/O error, dev mmcblk0",
    ],
    "bus": ["CAN_ERROR_FRAME", "BUS_OFF", "CAN_SILENT_0AA", "U0100", "can0 bus-off"],
    "watchdog": [
        "WATCHDOG_RESET",
        "WATCHDOG_RESET telemetryd silent for 30 s",
        "SIGSEGV",
        "daemon crashed",
    ],
    "processor": ["machine check: i-fetch", "data TLB error interrupt", "L3 ecc error detected"],
    "positioning": ["GNSS_LOST", "GPS fix lost", "no GPS"],
    "dropout": ["ULOG_DROPOUT"],
    "network": [
        "CONNECTION_TIMEOUT",
        "connection refused",
        "host unreachable",
        "ERRNO_110",
        "MQTT link down",
    ],
    "sensor_range": [
        "YawRate_RANGE",
        "POWERTRAIN_ENGINESPEED_RANGE",
        "value out of range",
        "sensor stuck",
    ],
}
HARMLESS = [
    "watch list refreshed",
    "campaign C-2291 poll: nothing new",
    "battery 12.4 V, above the update limit of 11.5 V",
    "GNSS fix with 9 satellites",
    "coolant 84 degC, fan at 30 percent",
    "chunk 4 slow, 812 ms",
    "arrangement of tiles done",
    "cancelled by user",
    "authored by build bot",
    "E4102",
    "radio silent for 30 s",
    "LOGIN chdir(/p/gb2) failed: No such file or directory",
]


def judge(*files: ParsedFile) -> Diagnosis:
    return diagnose(files, gather_statistics(files))


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule, texts in SPOKEN.items() for text in texts]
)
def test_each_rule_knows_its_words(rule: str, text: str) -> None:
    found = rule_for(text)
    assert found is not None
    assert found.key == rule


def test_every_rule_is_tested_above() -> None:
    assert set(SPOKEN) == {rule.key for rule in RULES}


@pytest.mark.parametrize("text", HARMLESS)
def test_healthy_words_match_no_rule(text: str) -> None:
    assert rule_for(text) is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_each_rule_makes_a_finding(rule: object) -> None:
    key = getattr(rule, "key", "")
    diagnosis = judge(parsed("a.log", {SPOKEN[key][0]: 12}))
    assert [finding.rule for finding in diagnosis.findings] == [key]
    finding = diagnosis.findings[0]
    assert finding.recommended_action
    assert finding.evidence[0].quote.endswith("12 times")


def test_no_errors_no_findings() -> None:
    diagnosis = judge(parsed("a.log", warnings=400), parsed("b.log"))
    assert diagnosis.findings == []
    assert diagnosis.unknowns == []
    assert diagnosis.summary.startswith("No errors")


def test_an_empty_batch_has_nothing_to_judge() -> None:
    assert "nothing to judge" in judge().summary
    assert judge(failed("a.log")).unknowns == [
        "1 file could not be read: what they hold is not judged"
    ]


def test_an_opaque_code_is_understood_by_its_critical_message() -> None:
    quote = "E2107 BROWNOUT supply voltage 7.8 V below 9.0 V"
    diagnosis = judge(parsed("v3.log", {"E2107": 14, "E2101": 31}, critical={"E2107": quote}))
    (finding,) = diagnosis.findings
    assert finding.rule == "power"
    assert finding.occurrences == 45, "E2101 says nothing itself; its neighbour E2107 does"
    assert (finding.evidence[0].quote, finding.evidence[0].line) == (quote, 10)


def test_neighbours_lend_no_meaning_across_files_or_hundreds() -> None:
    diagnosis = judge(
        parsed("v3.log", {"E2107": 14, "E2201": 3}, critical={"E2107": "brown-out"}),
        parsed("v4.log", {"E2101": 2}),
    )
    assert [unknown.split()[0] for unknown in diagnosis.unknowns] == ["E2201", "E2101"]


def test_a_catch_all_code_is_split_by_what_its_messages_say() -> None:
    one = parsed("a.log", {"ERROR": 5}, critical={"ERROR": "kernel panic - not syncing"})
    other = parsed("b.log", {"ERROR": 2}, critical={"ERROR": "no space left on device"})
    diagnosis = judge(one, other)
    assert {f.rule: f.occurrences for f in diagnosis.findings} == {"watchdog": 1, "storage": 1}
    assert diagnosis.unknowns == ["ERROR (5x): no rule knows this code"]


def test_findings_stand_by_severity_then_confidence() -> None:
    codes = {"CONNECTION_TIMEOUT": 900, "WATCHDOG_RESET": 1, "BROWNOUT": 50, "GNSS_LOST": 9}
    rules = [finding.rule for finding in judge(parsed("a", codes)).findings]
    assert rules == ["power", "watchdog", "positioning", "network"]


def test_few_transients_are_named_but_not_judged() -> None:
    diagnosis = judge(parsed("a", {"CONNECTION_TIMEOUT": 2}))
    assert diagnosis.findings == []
    assert "too few to judge" in diagnosis.unknowns[0]


def test_spread_tells_a_fleet_problem_from_an_outlier() -> None:
    everyone = judge(*(parsed(f"v{i}.log", {"GNSS_LOST": 4}) for i in range(4)))
    assert "systemic" in everyone.findings[0].root_cause
    calm = [parsed(f"v{i}.log") for i in range(4)]
    bad = [parsed("v9.log", {"BROWNOUT": 4}), parsed("v9.blf", {"BatteryVoltage_RANGE": 4})]
    alone = judge(*calm, *bad)
    assert "all of v9: an outlier" in alone.findings[0].root_cause


def test_an_unknown_burst_is_a_finding_of_its_own() -> None:
    diagnosis = judge(parsed("a", {"X77": 400, "Y12": 30}), parsed("b"), parsed("c"))
    assert [(f.rule, f.error_codes) for f in diagnosis.findings] == [("error_burst", ["X77"])]
    assert diagnosis.unknowns[0].startswith("X77 (400x)")


def test_a_known_burst_is_not_reported_twice() -> None:
    assert [f.rule for f in judge(parsed("a", {"BROWNOUT": 400})).findings] == ["power"]


def test_an_unknown_code_shared_by_most_files_is_systemic() -> None:
    diagnosis = judge(*(parsed(f"v{i}", {"Q9": 4, "R1": 1}) for i in range(3)), parsed("v4"))
    assert [f.rule for f in diagnosis.findings] == ["systemic_code", "systemic_code"]


def test_a_file_far_above_the_fleet_stands_out() -> None:
    calm = [parsed(f"v{i}", {f"A{i}": 1}) for i in range(5)]
    noisy = parsed("loud", {"J1": 30, "J2": 28, "J3": 25, "J4": 20})
    diagnosis = judge(*calm, noisy)
    assert [(f.rule, f.affected_files) for f in diagnosis.findings] == [("outlier_file", ["loud"])]


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.9, 1.0])
def test_confidence_is_bounded_and_grows_with_evidence(specificity: float) -> None:
    values = [confidence(specificity, n, 1) for n in (0, 1, 3, 10, 10**6)]
    assert values == sorted(values)
    assert all(0.0 <= value <= CONFIDENCE_CEILING for value in values)
    assert confidence(specificity, 5, 3) >= confidence(specificity, 5, 1)
    assert confidence(specificity, 5, 99) == confidence(specificity, 5, 5)


def test_confidence_is_what_its_docstring_says() -> None:
    assert confidence(0.9, 1, 1) == 0.45
    assert confidence(0.9, 40, 4) == pytest.approx(0.94, abs=0.005)


def test_evidence_is_short_and_takes_turns() -> None:
    files = [
        parsed(f"v{i}.log", {"BROWNOUT": 9}, critical={"BROWNOUT": "brown-out " + "x" * 90})
        for i in range(4)
    ]
    (finding,) = judge(*files).findings
    assert {item.file for item in finding.evidence} == {f"v{i}.log" for i in range(4)}
    assert all(len(item.quote) <= 100 for item in finding.evidence)


def test_hostile_text_cannot_stall_a_rule() -> None:
    start = time.process_time()
    for text in ("battery" * 10_000, "can_" * 10_000, "_A" * 10_000, "auth " * 10_000):
        rule_for(text)
    assert time.process_time() - start < 0.5


def test_dropouts_are_found_in_the_details_of_a_log() -> None:
    flight = parsed("flight.ulg", format_name="ulog")
    assert flight.features is not None
    flight.features.details = {"dropouts": 4, "duration_s": 69.0}
    assert [(f.rule, f.occurrences) for f in judge(flight).findings] == [("dropout", 4)]


def test_the_order_in_which_storage_returns_codes_changes_nothing() -> None:
    codes = {"BROWNOUT": 5, "UNDERVOLTAGE": 9, "VBAT_LOW": 5}
    forward, backward = parsed("a", codes), parsed("a", codes)
    assert backward.features is not None
    backward.features.top_error_codes = dict(sorted(codes.items(), reverse=True))
    assert judge(forward) == judge(backward)


def test_folding_reads_codes_and_words_alike() -> None:
    assert fold("BatteryVoltage_RANGE") == "BATTERY_VOLTAGE_RANGE"
    assert fold("  battery voltage: out-of range! ") == "BATTERY_VOLTAGE_OUT_OF_RANGE"
    assert fold("日本") == ""
