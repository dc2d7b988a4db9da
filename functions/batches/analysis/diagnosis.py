"""Rule-based diagnosis: finds causes from features alone, never from raw logs (V-04, V-08)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from batches.analysis.anomalies import find_anomalies
from batches.analysis.findings import (
    Diagnosis,
    Evidence,
    Finding,
    common_origin,
    confidence,
    describe_spread,
    origin,
    rank,
)
from batches.analysis.rules import Rule, rule_for
from batches.analysis.sightings import Explained, Sighting, explain
from batches.analysis.statistics import BatchStatistics, ParsedFile
from batches.features import MESSAGE_LIMIT
from batches.wording import counted

__all__ = ["Diagnosis", "Evidence", "Finding", "diagnose"]

EVIDENCE_SHOWN = 6
QUOTES_PER_CODE = 3
UNKNOWNS_SHOWN = 20


def diagnose(files: Sequence[ParsedFile], statistics: BatchStatistics) -> Diagnosis:
    """Return the causes of a batch's errors; a batch without errors has no findings."""
    return judge(explain(files), statistics)


def judge(explained: Explained, statistics: BatchStatistics) -> Diagnosis:
    """Return the diagnosis for codes that are already sorted by rule.

    A rule becomes a finding only when it has enough sightings.
    """
    judged = sum(row.events > 0 for row in statistics.files)
    convincing = {
        rule: _convincing(
            rule, sightings, _units(row.name for row in statistics.files if row.events)
        )
        for rule, sightings in explained.sightings.items()
    }
    findings = [
        _finding(rule, sightings, judged) for rule, sightings in convincing.items() if sightings
    ]
    findings += find_anomalies(statistics, explained.unknown_by_file)
    ranked = rank(findings)
    return Diagnosis(
        summary=summarize(ranked, statistics),
        findings=ranked,
        unknowns=list(_unknowns(explained, convincing, statistics)),
    )


def _units(names: Iterable[str]) -> int:
    return len({origin(name) for name in names})


def _convincing(rule: Rule, sightings: list[Sighting], units: int) -> list[Sighting]:
    """Return the sightings of those units that have enough of them.

    A unit needs `rule.min_count` occurrences. One is enough if more than half of the units show
    the rule and together have `rule.min_count`.
    """
    by_unit: defaultdict[str, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        by_unit[origin(sighting.file)].append(sighting)
    is_shared = len(by_unit) * 2 > units and _count(sightings) >= rule.min_count
    enough = 1 if is_shared else rule.min_count
    return [
        sighting
        for seen in by_unit.values()
        if _count(seen) >= max(enough, min(one.least for one in seen))
        for sighting in seen
    ]


def _count(sightings: Iterable[Sighting]) -> int:
    return sum(sighting.count for sighting in sightings)


def _finding(rule: Rule, sightings: list[Sighting], judged: int) -> Finding:
    by_code: Counter[str] = Counter()
    by_file: Counter[str] = Counter()
    for sighting in sightings:
        by_code[sighting.code] += sighting.count
        by_file[sighting.file] += sighting.count
    said = any(rule_for(event.message) is rule for s in sightings for event in s.events)
    recognised = {sighting.code for sighting in sightings if not sighting.guessed}
    spread = describe_spread(by_file, judged)
    return Finding(
        rule=rule.key,
        title=rule.title,
        root_cause=f"{rule.root_cause} {spread}".strip(),
        severity=rule.severity,
        confidence=confidence(
            rule.specificity, _count(sightings), len(by_file) + len(recognised) - 1 + said
        ),
        error_codes=[code for code, _ in by_code.most_common()],
        affected_files=[name for name, _ in by_file.most_common()],
        occurrences=_count(sightings),
        evidence=pick_evidence(sightings),
        recommended_action=rule.action,
    )


def pick_evidence(sightings: Sequence[Sighting]) -> list[Evidence]:
    """Return at most `EVIDENCE_SHOWN` quotes, from each sighting in turn; lines before counts."""
    turns = zip_longest(*(_quotes(sighting) for sighting in sightings))
    picked = [quote for turn in turns for quote in turn if quote is not None]
    return sorted(picked[:EVIDENCE_SHOWN], key=lambda quote: quote.line is None)


def _quotes(sighting: Sighting) -> list[Evidence]:
    if not sighting.events:
        times = "once" if sighting.count == 1 else f"{sighting.count} times"
        quote = f"{sighting.code[:80]}, {times}"
        return [Evidence(file=sighting.file, code=sighting.code, quote=quote)]
    return [
        Evidence(
            file=sighting.file,
            line=event.line,
            timestamp=event.timestamp,
            code=event.code,
            quote=event.message[:MESSAGE_LIMIT],
        )
        for event in sighting.events[:QUOTES_PER_CODE]
    ]


def _unknowns(
    explained: Explained, convincing: Mapping[Rule, list[Sighting]], statistics: BatchStatistics
) -> Iterable[str]:
    for code, count in explained.unknown.most_common(UNKNOWNS_SHOWN):
        yield f"{code} ({count}x): no rule knows this code"
    for rule, sightings in explained.sightings.items():
        if not convincing[rule]:
            count = _count(sightings)
            codes = ", ".join(sorted({sighting.code for sighting in sightings}))
            yield f"{codes} ({count}x): looks like “{rule.title}”, too few to judge"
    if statistics.files_failed:
        unread = counted(statistics.files_failed, "file")
        yield f"{unread} could not be read: what they hold is not judged"


def summarize(findings: Sequence[Finding], statistics: BatchStatistics) -> str:
    """Return one or two sentences: the number of findings and events, and the most urgent one."""
    if not statistics.files_parsed:
        return "No file could be read, so there is nothing to judge."
    scope = (
        f"{counted(statistics.errors, 'error')} in {counted(statistics.events, 'event')} "
        f"of {counted(statistics.files_parsed, 'file')}"
    )
    if not findings and not statistics.errors:
        return f"No errors: {scope}."
    if not findings:
        return f"No known cause stands out: {scope}."
    first = findings[0]
    where = common_origin(first.affected_files) or counted(len(first.affected_files), "file")
    return (
        f"{counted(len(findings), 'finding')} from {scope}. Most urgent: {first.title} in {where} "
        f"({first.severity}, confidence {first.confidence:.0%})."
    )
