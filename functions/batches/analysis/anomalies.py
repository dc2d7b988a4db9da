"""Findings that need no known code: bursts, shared codes and outlier files.

They use only the codes that no rule explains. A code with a known cause already has a finding.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import median

from batches.analysis.findings import Evidence, Finding, confidence, describe_spread
from batches.analysis.statistics import BatchStatistics, FileRow

BURST_SHARE = 0.5
BURST_MINIMUM = 20
OUTLIER_FACTOR = 5.0
OUTLIER_MINIMUM = 20
OUTLIER_PEERS = 3

type CodesByFile = Mapping[str, Counter[str]]
"""File name -> unexplained code -> occurrences."""


def find_anomalies(statistics: BatchStatistics, unexplained: CodesByFile) -> list[Finding]:
    """Return the generic findings of a batch."""
    return [
        *_bursts(statistics, unexplained),
        *_shared_codes(statistics, unexplained),
        *_outliers(statistics, unexplained),
    ]


def _totals(unexplained: CodesByFile) -> Counter[str]:
    return sum((Counter(codes) for codes in unexplained.values()), Counter())


def _files_with(code: str, unexplained: CodesByFile) -> list[str]:
    holders = [name for name, codes in unexplained.items() if codes[code]]
    return sorted(holders, key=lambda name: (-unexplained[name][code], name))


def _bursts(statistics: BatchStatistics, unexplained: CodesByFile) -> Iterator[Finding]:
    for code, count in _totals(unexplained).items():
        share = count / statistics.errors if statistics.errors else 0.0
        if count < BURST_MINIMUM or share <= BURST_SHARE:
            continue
        files = _files_with(code, unexplained)
        yield _finding(
            rule="error_burst",
            title=f"One code dominates: {code}",
            root_cause=f"{code} makes up {share:.0%} of all errors. Such a burst has one "
            "source that repeats, usually a retry loop or a stuck device.",
            severity="medium",
            confidence=confidence(0.7 * share, count, len(files)),
            codes={code: count},
            files=files,
            action="Read the first occurrence and what precedes it; the rest repeats it.",
        )


def _shared_codes(statistics: BatchStatistics, unexplained: CodesByFile) -> Iterator[Finding]:
    if statistics.files_parsed < OUTLIER_PEERS:
        return
    for code, count in _totals(unexplained).items():
        files = _files_with(code, unexplained)
        if len(files) * 2 <= statistics.files_parsed:
            continue
        spread = describe_spread(files, statistics.files_parsed)
        yield _finding(
            rule="systemic_code",
            title=f"Shared by most files: {code}",
            root_cause=f"No rule knows {code}, yet most of the batch shows it. {spread}",
            severity="medium",
            confidence=confidence(0.6 * len(files) / statistics.files_parsed, count, len(files)),
            codes={code: count},
            files=files,
            action="Look for what these vehicles share: the release, the campaign, the backend.",
        )


def _outliers(statistics: BatchStatistics, unexplained: CodesByFile) -> Iterator[Finding]:
    rows = [row for row in statistics.files if row.status == "completed" and row.events]
    if len(rows) <= OUTLIER_PEERS:
        return
    for row in rows:
        codes = unexplained.get(row.name, Counter())
        usual = median(other.error_percent for other in rows if other is not row)
        stands_out = row.error_percent > max(OUTLIER_FACTOR * usual, 1.0)
        if stands_out and codes.total() >= max(OUTLIER_MINIMUM, row.errors / 2):
            yield _outlier(row, usual, codes)


def _outlier(row: FileRow, usual: float, codes: Counter[str]) -> Finding:
    return _finding(
        rule="outlier_file",
        title=f"Error rate far above the fleet: {row.name}",
        root_cause=f"{row.error_percent:.1f} % of the events in this file are errors; half of "
        f"the other files stay below {usual:.1f} %. No rule explains most of them.",
        severity="medium",
        confidence=confidence(0.6, codes.total(), len(codes)),
        codes=dict(codes.most_common(5)),
        files=[row.name],
        action="Compare this vehicle's configuration and software with a quiet one.",
    )


def _finding(
    *,
    rule: str,
    title: str,
    root_cause: str,
    severity: str,
    confidence: float,
    codes: dict[str, int],
    files: list[str],
    action: str,
) -> Finding:
    evidence = [
        Evidence(file=files[0], code=code, quote=f"{code[:80]}, {count} times")
        for code, count in codes.items()
    ]
    return Finding.model_validate(
        {
            "rule": rule,
            "title": title,
            "root_cause": root_cause,
            "severity": severity,
            "confidence": confidence,
            "error_codes": list(codes),
            "affected_files": files,
            "occurrences": sum(codes.values()),
            "evidence": evidence,
            "recommended_action": action,
        }
    )
