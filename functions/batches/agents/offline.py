"""The offline expert: answers in place of a model, by rules and knowledge base, without network."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from batches.agents.case_index import plain
from batches.agents.shapes import (
    Claim,
    Doubt,
    Hit,
    LogReport,
    Observation,
    OpenQuestion,
    Verdict,
)
from batches.analysis.findings import Diagnosis
from batches.analysis.rules import is_denial, is_reassuring
from batches.analysis.sightings import explain
from batches.analysis.statistics import ParsedFile, gather_statistics
from batches.wording import counted
from skald.models import Answer, Question
from skald.models.interface import OnText

AGREEING = 2
"""The closest entries of a question; all must have the same subject before it is accepted."""
CLOSE = 0.2
"""The least closeness of the first entry; above it, no known fault line matched a wrong subject."""
FEWEST = 3
"""Fewer occurrences than this are normal noise, as long as no rule explains them."""
_SEEN = 15


@dataclass(frozen=True)
class LogFacts:
    """The input of a log expert."""

    files: Sequence[ParsedFile]


@dataclass(frozen=True)
class CaseFacts:
    """The input of the diagnosis expert; only a second look has questions and hits."""

    by_rules: Diagnosis
    questions: Sequence[OpenQuestion] = ()
    hits: Sequence[Hit] = ()


class OfflineExpert:
    """Answers like a model, deterministically and at no cost; it reads only the facts."""

    name = "offline expert"
    is_offline = True

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        facts = question.facts
        said = _report(facts.files) if isinstance(facts, LogFacts) else _verdict(facts)
        if on_text is not None:
            on_text(said.summary)
        return Answer(f"{said.summary}\n{said.model_dump_json()}", self.name)


def _report(files: Sequence[ParsedFile]) -> LogReport:
    explained = explain(files)
    observations = [
        Observation(
            cause=rule.key,
            error_codes=list(dict.fromkeys(plain(one.code) for one in seen))[:20],
            files=list(dict.fromkeys(plain(one.file) for one in seen))[:50],
            why=f"{counted(sum(one.count for one in seen), 'sighting')} of: {rule.title}",
        )
        for rule, seen in explained.sightings.items()
        if seen
    ]
    figures = gather_statistics(files)
    causes = ", ".join(one.cause for one in observations) or "no known cause"
    summary = (
        f"{counted(figures.files_parsed, 'file')}, {counted(figures.errors, 'error')}: {causes};"
        f" {counted(explained.unknown.total(), 'error')} unexplained."
    )
    return LogReport(summary=summary, observations=observations[:_SEEN])


def _verdict(facts: CaseFacts) -> Verdict:
    """Return the verdict of the rules; a second look adds claims and doubts from the entries."""
    if not facts.questions:
        return Verdict(summary=facts.by_rules.summary)
    learnt = {question: _agreed(question, facts.hits) for question in facts.questions}
    claims = [_claim(one, hit) for one, hit in learnt.items() if hit and _adds(one, hit)]
    return Verdict(
        summary=f"{len(claims)} of {counted(len(learnt), 'open question')} explained.",
        claims=claims,
        doubts=[*_doubts(learnt)],
    )


def _agreed(question: OpenQuestion, hits: Sequence[Hit]) -> Hit | None:
    """Return the closest entry, or None if it is not close or the next has another subject."""
    closest = [hit for hit in hits if hit.question == question][:AGREEING]
    subjects = {hit.subject for hit in closest}
    is_agreed = len(closest) == AGREEING and len(subjects) == 1 and "" not in subjects
    all_is_well = is_reassuring(question.words) or is_denial(question.words)
    if is_agreed and closest[0].closeness >= CLOSE and not all_is_well:
        return closest[0]
    return None


def _adds(question: OpenQuestion, hit: Hit) -> bool:
    return hit.subject != question.suspect and question.count >= FEWEST


def _claim(question: OpenQuestion, hit: Hit) -> Claim:
    return Claim(
        cause=hit.subject,
        files=[plain(question.file)],
        error_codes=[plain(question.code)],
        why=f"{plain(question.code)} reads like “{hit.source.title}”.",
    )


def _doubts(learnt: Mapping[OpenQuestion, Hit | None]) -> Iterator[Doubt]:
    """Doubt a suspected rule in a file in two cases.

    In the first, the knowledge base assigns all its questions to other rules. In the second, it
    assigns none of them, and they occur fewer than `FEWEST` times.
    """
    suspected: defaultdict[tuple[str, str], list[OpenQuestion]] = defaultdict(list)
    for question in learnt:
        if question.suspect is not None:
            suspected[question.suspect, question.file].append(question)
    for (suspect, file), questions in suspected.items():
        hits = [hit for one in questions if (hit := learnt[one])]
        seen = sum(one.count for one in questions)
        if len(hits) == len(questions) and all(hit.subject != suspect for hit in hits):
            why = f"its words are nearer to “{hits[0].source.title}”"
        elif not hits and seen < FEWEST:
            why = f"it occurs only {counted(seen, 'time')} and resembles no known entry"
        else:
            continue
        yield Doubt(cause=suspect, files=[plain(file)], why=why)
