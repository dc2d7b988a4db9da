"""The offline expert: rules and knowledge base answer in a model's place, without a network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batches.agents.docket import plain
from batches.agents.shapes import (
    Claim,
    Hit,
    LogReport,
    Observation,
    OpenQuestion,
    Verdict,
)
from batches.analysis.findings import Diagnosis
from batches.analysis.sightings import explain
from batches.analysis.statistics import ParsedFile, gather_statistics
from skald.models import Answer, Question
from skald.models.interface import OnText

AGREEING = 2
"""Entries that have to be of one subject, the closest first, before it is believed."""
_SEEN = 15


@dataclass(frozen=True)
class LogFacts:
    """What a log expert is asked about."""

    files: Sequence[ParsedFile]


@dataclass(frozen=True)
class CaseFacts:
    """What the diagnosis expert is asked about: the rules' diagnosis, and at a second look more."""

    by_rules: Diagnosis
    questions: Sequence[OpenQuestion] = ()
    hits: Sequence[Hit] = ()


class OfflineExpert:
    """Answers like a model, deterministic and at no cost: what it reads are the facts."""

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
            why=f"{sum(one.count for one in seen)} sightings of: {rule.title}",
        )
        for rule, seen in explained.sightings.items()
        if seen
    ]
    figures = gather_statistics(files)
    causes = ", ".join(one.cause for one in observations) or "no known cause"
    summary = (
        f"{figures.files_parsed} files, {figures.errors} errors: {causes};"
        f" {explained.unknown.total()} errors unexplained."
    )
    return LogReport(summary=summary, observations=observations[:_SEEN])


def _verdict(facts: CaseFacts) -> Verdict:
    """Let the rules stand; at a second look claim what the knowledge base explains besides."""
    if not facts.questions:
        return Verdict(summary=facts.by_rules.summary)
    claims = [*_learnt(facts)]
    return Verdict(
        summary=f"{len(claims)} of {len(facts.questions)} open questions explained.",
        claims=claims,
    )


def _learnt(facts: CaseFacts) -> Iterator[Claim]:
    """Claim a cause where the knowledge base is of one mind about what nobody explains."""
    for question in facts.questions:
        hits = [hit for hit in facts.hits if hit.question == question]
        if question.suspect is None and (subject := _agreed(hits)):
            yield Claim(
                cause=subject,
                files=[plain(question.file)],
                error_codes=[plain(question.code)],
                why=f"{plain(question.code)} reads like “{hits[0].source.title}”.",
            )


def _agreed(hits: Sequence[Hit]) -> str:
    """Return the subject of the closest entries, empty where they differ."""
    subjects = {hit.subject for hit in hits[:AGREEING]}
    is_close = len(hits) >= AGREEING and all(hit.is_close for hit in hits[:AGREEING])
    return subjects.pop() if is_close and len(subjects) == 1 else ""
