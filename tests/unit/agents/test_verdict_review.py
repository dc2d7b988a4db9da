"""V-08: the claims of experts are checked against the features; only evidence has weight."""

from typing import Any
from uuid import UUID

import pytest
from tests.unit.analysis.samples import parsed

from batches.agents import Case
from batches.agents.shapes import Claim, Doubt, Quote, Verdict
from batches.agents.verdict_review import VerdictReview, certainty
from batches.analysis.diagnosis import diagnose
from batches.analysis.statistics import ParsedFile, gather_statistics

SAG = "BROWNOUT supply voltage 7.3 V below 9.0 V"
WOBBLE = "the flux compensator is wobbling"
FILES = [
    parsed("v1.log", {"E2107": 40}, critical={"E2107": SAG}),
    parsed("v2.log", {"E99": 12, "E98": 1}, critical={"E99": WOBBLE}),
    parsed("v3.log", {"ENOSPC": 1}),
]


def case_of(*files: ParsedFile) -> Case:
    return Case(
        tenant_id=UUID(int=1),
        batch_id=UUID(int=2),
        files=[*files],
        statistics=gather_statistics(files),
    )


CASE = case_of(*FILES)


def claim(cause: str = "compensator", **fields: Any) -> Verdict:
    document = {"cause": cause, "title": "Compensator wobbles", "why": "It wobbles."} | fields
    return Verdict(summary="", claims=[Claim.model_validate(document)])


def test_without_a_word_of_the_expert_the_rules_stand() -> None:
    expected = diagnose(FILES, CASE.statistics)
    assert VerdictReview(CASE).judge() == VerdictReview(CASE).judge(Verdict(summary="")) == expected


def test_a_cause_no_rule_knows_is_quoted_from_the_features() -> None:
    """V-08: line, time and code of the evidence come from the features, not from the model."""
    quotes = [{"file": "v2.log", "text": "flux  COMPENSATOR"}]
    judged = VerdictReview(CASE).judge(claim(quotes=quotes, certainty=0.9))
    finding = next(one for one in judged.findings if one.rule == "compensator")
    assert [(one.file, one.line, one.code, one.quote) for one in finding.evidence] == [
        ("v2.log", 10, "E99", WOBBLE)
    ]
    assert (finding.affected_files, finding.error_codes) == (["v2.log"], ["E99"])
    assert finding.occurrences == 12
    assert finding.confidence < 0.6
    assert "3 findings" in judged.summary


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"files": ["v2.log"]},
        {"files": ["v9.log"], "error_codes": ["E99"]},
        {"files": ["v1.log"], "error_codes": ["E99"]},
        {"error_codes": ["E77"]},
        {"quotes": [{"file": "v2.log", "text": "the capacitor exploded"}]},
        {"quotes": [{"file": "v1.log", "text": WOBBLE}]},
        {"quotes": [{"file": "v2.log", "text": "the"}]},
        {"quotes": [{"file": "v2.log", "text": "made up"}], "error_codes": ["E99"]},
    ],
)
def test_hallucinations_are_dropped_and_listed(fields: dict[str, Any]) -> None:
    """V-08: no place, another file, another code, words that are in no log or in every log."""
    judged = VerdictReview(CASE).judge(claim(**fields))
    assert judged.findings == diagnose(FILES, CASE.statistics).findings
    assert "“Compensator wobbles”: claimed without evidence" in judged.unknowns


def test_a_known_cause_takes_what_no_rule_explained() -> None:
    """V-08: the words and weights of the rule stay; the reason of the expert is added."""
    judged = VerdictReview(CASE).judge(claim("thermal", files=["v2.log"], error_codes=["E99"]))
    finding = next(one for one in judged.findings if one.rule == "thermal")
    assert finding.title == "Over-temperature"
    assert finding.root_cause.endswith("It wobbles.")
    assert finding.occurrences == 12
    assert not any("E99" in unknown for unknown in judged.unknowns)


def test_a_finding_gives_few_reasons_and_none_twice() -> None:
    said = claim("thermal", files=["v2.log"], error_codes=["E99"])
    wordy = [said.claims[0].model_copy(update={"why": f"Reason {n % 7}."}) for n in range(20)]
    judged = VerdictReview(CASE).judge(Verdict(summary="", claims=wordy))
    finding = next(one for one in judged.findings if one.rule == "thermal")
    assert finding.root_cause.count("Reason") == 3


def test_a_claim_takes_nothing_from_the_rules() -> None:
    judged = VerdictReview(CASE).judge(claim("thermal", error_codes=["E2107", "ENOSPC"]))
    assert judged.findings == diagnose(FILES, CASE.statistics).findings


def test_an_expert_can_lower_confidence_and_not_raise_it() -> None:
    """V-08: confidence comes from the evidence."""

    def confidence(certainty: float) -> float:
        said = claim("thermal", files=["v2.log"], error_codes=["E99"], certainty=certainty)
        findings = VerdictReview(CASE).judge(said).findings
        return next(one.confidence for one in findings if one.rule == "thermal")

    assert confidence(0.2) == 0.2
    assert confidence(1.0) == confidence(0.95) < 0.95


def test_a_doubt_takes_away_what_is_not_sure_and_nothing_else() -> None:
    """V-08: a model cannot remove a sure finding."""
    doubts = [
        Doubt(cause=cause, files=["v1.log", "v3.log"], why="it is a drill")
        for cause in ("power", "storage", "nonsense")
    ]
    assert {one.rule for one in VerdictReview(CASE).judge().findings} >= {"power", "storage"}
    judged = VerdictReview(CASE).judge(Verdict(summary="", doubts=doubts))
    rules = {one.rule for one in judged.findings}
    assert "power" in rules
    assert "storage" not in rules
    assert any("it is a drill" in unknown for unknown in judged.unknowns)


def test_doubt_and_claim_move_a_sighting() -> None:
    """V-08: a rule that is not sure may have taken it for the wrong cause."""
    moved = claim("memory", files=["v3.log"], error_codes=["ENOSPC"])
    moved.doubts = [Doubt(cause="storage", files=["v3.log"])]
    rules = {one.rule: one for one in VerdictReview(CASE).judge(moved).findings}
    assert "storage" not in rules
    assert rules["memory"].affected_files == ["v3.log"]


def test_a_common_code_gives_only_the_lines_of_its_trouble() -> None:
    """V-08: 500 lines of ERROR are not 500 lines of this trouble."""
    messages = {"ERROR": WOBBLE}
    case = case_of(parsed("v1.log", {"ERROR": 500}, critical=messages))
    said = claim("thermal", quotes=[Quote(file="v1.log", text=WOBBLE)])
    finding = next(one for one in VerdictReview(case).judge(said).findings if one.rule == "thermal")
    assert finding.occurrences == 1


def test_a_glitch_of_a_decoded_signal_stays_one() -> None:
    """V-08: one second out of range is no evidence, with any claim about it."""
    words = "PowerSupply.Main is 8.3 V, outside 9 to 16"
    file = parsed(
        "v1.can", {"POWERSUPPLY_MAIN_RANGE": 1}, critical={"POWERSUPPLY_MAIN_RANGE": words}
    )
    assert file.features is not None
    file.features.details["identifiers"] = 4
    case = case_of(file)
    for evidence in (
        {"quotes": [Quote(file="v1.can", text=words)]},
        {"files": ["v1.can"], "error_codes": ["POWERSUPPLY_MAIN_RANGE"]},
    ):
        judged = VerdictReview(case).judge(claim("power", **evidence))
        assert "power" not in {one.rule for one in judged.findings}


def test_confidence_is_that_of_the_least_sure_finding() -> None:
    """V-08: of the least sure finding, and of what the findings do not explain."""
    sure = [FILES[0]]
    assert certainty(diagnose(sure, gather_statistics(sure)), 40) >= 0.7
    assert certainty(diagnose(sure, gather_statistics(sure)), 400) == 0.1
    weak = [FILES[0], FILES[2]]
    assert certainty(diagnose(weak, gather_statistics(weak)), 41) < 0.7
    nothing = [parsed("v1.log")]
    assert certainty(diagnose(nothing, gather_statistics(nothing)), 0) == 1.0
