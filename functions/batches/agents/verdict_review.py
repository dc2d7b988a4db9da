"""Checks the verdicts of experts against the features and rates them by the rules."""

from collections.abc import Iterator, Sequence

from batches.agents.case_index import CaseIndex
from batches.agents.interface import Case
from batches.agents.shapes import Claim, Doubt, Verdict
from batches.analysis.diagnosis import judge, pick_evidence, summarize
from batches.analysis.findings import SURE, Diagnosis, Finding, confidence, rank
from batches.analysis.rules import RULE_BY_KEY
from batches.analysis.sightings import Explained, Sighting, explain

_UNRULED_SPECIFICITY = 0.6
"""The specificity of a claim that no rule knows, 0 to 1; as much as that of an anomaly."""
_REASONS = 3
"""Reasons of experts that a finding quotes after the cause of its rule."""


class VerdictReview:
    """Decides by the rules which parts of an expert's verdict on a case hold."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._index = CaseIndex(case.files)
        self._by_rules = judge(explain(case.files), case.statistics)

    def judge(self, verdict: Verdict | None = None) -> Diagnosis:
        """Return the diagnosis of the rules, changed by the verdict.

        A claim attributes codes that no rule explains to its cause. A doubt removes sightings
        from a rule that is not sure of them. Confidence comes from the evidence; an expert can
        only lower it.
        """
        if verdict is None:
            return self._by_rules
        explained = explain(self._case.files)
        notes = [note for doubt in verdict.doubts for note in self._doubt(explained, doubt)]
        others: list[Finding] = []
        for claim in verdict.claims:
            seen = self._index.sightings(claim)
            if not seen:
                notes.append(f"“{claim.title or claim.cause}”: claimed without evidence")
            elif rule := RULE_BY_KEY.get(claim.cause):
                for one in seen:
                    explained.attribute(rule, one)
            else:
                others.append(self._finding(claim, seen))
        judged = judge(explained, self._case.statistics)
        findings = rank([*(self._bounded(f, verdict) for f in judged.findings), *others])
        return judged.model_copy(
            update={
                "summary": summarize(findings, self._case.statistics),
                "findings": findings,
                "unknowns": [*judged.unknowns, *notes, *verdict.unknowns],
            }
        )

    def _doubt(self, explained: Explained, doubt: Doubt) -> Iterator[str]:
        rule = RULE_BY_KEY.get(doubt.cause)
        if rule is None or self._is_sure(rule.key):
            return
        for file in self._index.files(doubt.files):
            if explained.withdraw(rule, file):
                yield f"{file}: not “{rule.title}”: {doubt.why or 'the expert doubts it'}"

    def _bounded(self, finding: Finding, verdict: Verdict) -> Finding:
        """Add the experts' reasons to a finding.

        Their certainty limits the confidence, unless the rules alone are sure of the finding.
        """
        claims = [claim for claim in verdict.claims if claim.cause == finding.rule]
        if not claims:
            return finding
        limit = 1.0 if self._is_sure(finding.rule) else max(claim.certainty for claim in claims)
        reasons = list(dict.fromkeys(claim.why for claim in claims if claim.why))
        words = " ".join([finding.root_cause, *reasons[:_REASONS]])
        sure = min(finding.confidence, limit)
        return finding.model_copy(update={"confidence": sure, "root_cause": words})

    def _is_sure(self, rule: str) -> bool:
        findings = self._by_rules.findings
        return any(one.rule == rule and one.confidence >= SURE for one in findings)

    def _finding(self, claim: Claim, seen: Sequence[Sighting]) -> Finding:
        files = list(dict.fromkeys(one.file for one in seen))
        codes = list(dict.fromkeys(one.code for one in seen))
        count = sum(one.count for one in seen)
        by_evidence = confidence(_UNRULED_SPECIFICITY, count, len(files))
        return Finding(
            rule=claim.cause[:50],
            title=claim.title or claim.cause[:50],
            root_cause=claim.why,
            severity=claim.severity,
            confidence=min(claim.certainty, by_evidence),
            error_codes=codes,
            affected_files=files,
            occurrences=count,
            evidence=pick_evidence(seen),
            recommended_action=claim.recommended_action,
        )


def certainty(diagnosis: Diagnosis, errors: int) -> float:
    """Return how certain a diagnosis is, 0 to 1.

    It is the lowest confidence of its findings, and at most the share of the batch's errors that
    its findings explain.
    """
    explained = sum(finding.occurrences for finding in diagnosis.findings)
    share = min(1.0, explained / errors) if errors else 1.0
    return round(min([share, *(finding.confidence for finding in diagnosis.findings)]), 3)
