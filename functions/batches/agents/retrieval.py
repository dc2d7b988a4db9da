"""Searches the knowledge base for a case: by its codes, and for each open question (V-09)."""

from collections.abc import Iterable, Iterator, Sequence

from batches.agents.interface import Case
from batches.agents.shapes import Hit, OpenQuestion
from batches.analysis.findings import SURE, Diagnosis, KnowledgeSource
from batches.analysis.rules import RULE_BY_KEY
from batches.analysis.sightings import Explained, Sighting, explain, sighting
from batches.analysis.statistics import completed
from batches.features import MESSAGE_LIMIT
from batches.wording import shortened
from skald.knowledge.entries import Source, Wanted
from skald.knowledge.local import embed
from skald.knowledge.ranking import search
from skald.postgres import Transaction

WANTED = {"error_code": 3, "diagnosis": 2}
"""Most entries of each kind per search; a limit per kind leaves past diagnoses only their share."""
CODES_SOUGHT = 20
QUESTIONS = 12
_CODE_LIMIT = 100
_WORDS_LIMIT = 200


def find_by_codes(tx: Transaction, case: Case) -> list[Hit]:
    """Return the entries about the batch's most frequent codes."""
    codes = [ranked.code for ranked in case.statistics.top_error_codes[:CODES_SOUGHT]]
    if not codes:
        return []
    return [_hit(source) for source in _search(tx, case, " ".join(codes), codes)]


def find_by_questions(tx: Transaction, case: Case, questions: Sequence[OpenQuestion]) -> list[Hit]:
    """Return the entries closest to the words of each question."""
    known: dict[str, list[Source]] = {}
    for question in questions:
        if question.words not in known:
            known[question.words] = _search(tx, case, question.words)
    return [_hit(one, question) for question in questions for one in known[question.words]]


def open_questions(case: Case, diagnosis: Diagnosis) -> list[OpenQuestion]:
    """Return the codes that no rule explains with confidence, most frequent first."""
    explained = explain(case.files)
    weak = {finding.rule for finding in diagnosis.findings if finding.confidence < SURE}
    asked = [*_unexplained(case, explained), *_doubtful(explained, weak)]
    return sorted(asked, key=lambda one: (-one.count, one.file, one.code))[:QUESTIONS]


def _unexplained(case: Case, explained: Explained) -> Iterator[OpenQuestion]:
    for file, features in completed(case.files):
        for code, count in explained.unknown_by_file[file.name].items():
            words = _words(sighting(file.name, features, code, count))
            yield OpenQuestion(file=file.name, code=code, words=words, count=count)


def _doubtful(explained: Explained, rules: Iterable[str]) -> Iterator[OpenQuestion]:
    for key in sorted(rules & RULE_BY_KEY.keys()):
        for seen in explained.sightings[RULE_BY_KEY[key]]:
            yield OpenQuestion(
                file=seen.file, code=seen.code, words=_words(seen), count=seen.count, suspect=key
            )


def _words(seen: Sighting) -> str:
    return _clean(seen.events[0].message if seen.events else seen.code)


def _clean(words: str) -> str:
    return words.replace("\0", " ")[:_WORDS_LIMIT] or "?"


def _search(tx: Transaction, case: Case, text: str, codes: Iterable[str] = ()) -> list[Source]:
    wanted = Wanted(
        text=_clean(text),
        error_codes=tuple(code[:_CODE_LIMIT] for code in codes if code and "\0" not in code),
        platform=_shared_detail(case, "hardware"),
        firmware=_shared_detail(case, "software"),
    )
    return [
        source
        for kind, limit in WANTED.items()
        for source in search(tx.call, wanted.model_copy(update={"kinds": (kind,), "limit": limit}))
    ]


def _shared_detail(case: Case, name: str) -> str | None:
    """Return the value of a detail if all files that state it agree, else None."""
    said = {str(one.details[name]) for _, one in completed(case.files) if one.details.get(name)}
    agreed = said.pop().replace("\0", " ")[:_WORDS_LIMIT] if len(said) == 1 else ""
    return agreed or None


def _hit(source: Source, question: OpenQuestion | None = None) -> Hit:
    return Hit(
        question=question,
        subject=next((part for part in source.key.split("/") if part in RULE_BY_KEY), ""),
        closeness=_closeness(question, source) if question else 0.0,
        source=KnowledgeSource(
            title=source.title,
            kind=source.kind,
            excerpt=shortened(source.text, MESSAGE_LIMIT),
            error_codes=source.error_codes,
            source=source.source,
            is_shared=source.is_shared,
        ),
    )


def _closeness(question: OpenQuestion, source: Source) -> float:
    words, entry = embed(question.words), embed(f"{source.title}\n{source.text}")
    return round(max(0.0, sum(one * other for one, other in zip(words, entry, strict=True))), 3)
