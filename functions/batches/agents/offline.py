"""The offline expert: rules and knowledge base answer in a model's place, without a network."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from batches.agents.docket import plain
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
"""Entries that have to be of one subject, the closest first, before it is believed."""
CLOSE = 0.2
"""How close the first of them has to be: no known fault line was taken for another above this."""
LEAST = 3
"""Fewer lines than this, resembling something at most, are everyday life."""
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
    """Let the rules stand; at a second look say where the knowledge base knows better."""
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
    """Return the closest entry where it is close and the next is of its subject, None elsewhere."""
    closest = [hit for hit in hits if hit.question == question][:AGREEING]
    subjects = {hit.subject for hit in closest}
    is_agreed = len(closest) == AGREEING and len(subjects) == 1 and "" not in subjects
    all_is_well = is_reassuring(question.words) or is_denial(question.words)
    if is_agreed and closest[0].closeness >= CLOSE and not all_is_well:
        return closest[0]
    return None


def _adds(question: OpenQuestion, hit: Hit) -> bool:
    return hit.subject != question.suspect and question.count >= LEAST


def _claim(question: OpenQuestion, hit: Hit) -> Claim:
    return Claim(
        cause=hit.subject,
        files=[plain(question.file)],
        error_codes=[plain(question.code)],
        why=f"{plain(question.code)} reads like “{hit.source.title}”.",
    )


def _doubts(learnt: Mapping[OpenQuestion, Hit | None]) -> Iterator[Doubt]:
    """Doubt a suspicion where all its words in a file are another's, or few and nobody's."""
    suspected: defaultdict[tuple[str, str], list[OpenQuestion]] = defaultdict(list)
    for question in learnt:
        if question.suspect is not None:
            suspected[question.suspect, question.file].append(question)
    for (suspect, file), questions in suspected.items():
        hits = [hit for one in questions if (hit := learnt[one])]
        seen = sum(one.count for one in questions)
        if len(hits) == len(questions) and all(hit.subject != suspect for hit in hits):
            why = f"its words are nearer to “{hits[0].source.title}”"
        elif not hits and seen < LEAST:
            why = f"it is seen but {seen} times and reads like nothing known"
        else:
            continue
        yield Doubt(cause=suspect, files=[plain(file)], why=why)
