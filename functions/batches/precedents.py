"""Stores sure findings in the knowledge base, where they help to diagnose later batches (V-09)."""

from collections.abc import Iterator
from uuid import UUID

from batches.analysis.findings import SURE, Diagnosis, Finding
from batches.analysis.rules import RULE_BY_KEY
from skald.knowledge import store
from skald.knowledge.entries import NewEntry
from skald.postgres import Transaction

KIND = "diagnosis"
_CODES = 20
_CODE_LIMIT = 100


def remember(tx: Transaction, batch_id: UUID, diagnosis: Diagnosis) -> None:
    """Add the sure findings of a batch to the knowledge base of its tenant; safe to repeat."""
    store.add(tx, [_entry(batch_id, finding) for finding in _sure(diagnosis)])


def forget(tx: Transaction, batch_id: UUID, diagnosis: Diagnosis) -> None:
    """Retire the entries that `remember` added, if any, because the diagnosis is not valid."""
    for finding in _sure(diagnosis):
        store.retire(tx, KIND, _key(batch_id, finding))


def _sure(diagnosis: Diagnosis) -> Iterator[Finding]:
    """Yield the sure findings of the rule table; an anomaly such as a burst has no cause."""
    for finding in diagnosis.findings:
        if finding.rule in RULE_BY_KEY and finding.confidence >= SURE:
            yield finding


def _key(batch_id: UUID, finding: Finding) -> str:
    return f"{batch_id}/{finding.rule}"


def _entry(batch_id: UUID, finding: Finding) -> NewEntry:
    quotes = "\n".join(f"{one.file}: {one.quote}" for one in finding.evidence)
    words = f"{quotes}\n\nCause: {finding.root_cause}\n\n{finding.recommended_action}"
    codes = [code for code in finding.error_codes if len(code) <= _CODE_LIMIT and "\0" not in code]
    return NewEntry(
        key=_key(batch_id, finding),
        kind=KIND,
        title=finding.title,
        text=words.replace("\0", " "),
        error_codes=tuple(codes[:_CODES]),
        source=f"batch {batch_id}",
    )
