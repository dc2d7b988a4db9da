"""The parts of a diagnosis, and how their confidence is computed."""

from collections.abc import Collection, Iterable

from pydantic import BaseModel, Field

from batches.analysis.rules import Grade
from batches.features import MESSAGE_LIMIT

CONFIDENCE_CEILING = 0.97
"""The highest confidence, because features are only a summary of the logs."""
SURE = 0.7
"""A finding with at least this confidence is sure and needs no second look (V-08)."""
_GRADES: dict[Grade, int] = {"critical": 0, "high": 1, "medium": 2, "low": 3}


class Evidence(BaseModel):
    """One place in a file: a quoted line, or a code with its count if no line was kept."""

    file: str
    line: int | None = None
    timestamp: float | None = None
    code: str
    quote: str = Field(max_length=MESSAGE_LIMIT)


class Finding(BaseModel):
    """One cause, its evidence and what to do about it."""

    rule: str
    """Key of the rule that found it; the key is stable, the title may change."""
    title: str
    root_cause: str
    severity: Grade
    confidence: float = Field(ge=0.0, le=1.0)
    error_codes: list[str]
    affected_files: list[str]
    occurrences: int = 0
    evidence: list[Evidence]
    recommended_action: str


class ReasoningStep(BaseModel):
    """One agent's turn: its conclusion, its time and its tokens."""

    node: str
    summary: str
    model: str | None = None
    """The model that the agent asked; None if it asked none."""
    seconds: float = Field(default=0.0, ge=0.0)
    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)


class KnowledgeSource(BaseModel):
    """An entry of the knowledge base that supports a finding."""

    title: str
    kind: str
    excerpt: str = Field(max_length=MESSAGE_LIMIT)
    error_codes: list[str] = Field(default_factory=list)
    source: str | None = None
    is_shared: bool = True


class Diagnosis(BaseModel):
    """The diagnosis of a batch: its findings, worst first, and what has no explanation."""

    method: str = "rules"
    summary: str
    findings: list[Finding] = Field(default_factory=list)
    unknowns: list[str] = Field(default_factory=list)
    path: list[ReasoningStep] = Field(default_factory=list)
    """The agents' turns, in the order they ended."""
    sources: list[KnowledgeSource] = Field(default_factory=list)


def confidence(specificity: float, occurrences: int, witnesses: int) -> float:
    """Return a confidence, 0 to 1, computed from evidence alone.

    It depends on three values:

    * `specificity`: how surely the pattern means this cause, from the rule table.
    * `occurrences`, n: they scale the specificity by n / (n + 1). One occurrence counts 0.5,
      nine count 0.9.
    * `witnesses`: the number of independent sources. Each affected file is one, each distinct
      error code that was recognised by itself is one, and a critical message that says the same
      in words is one. Each witness after the first removes a fifth of the remaining doubt. Only
      four of them count, because copies of one fault in many files are not fully independent.

    So confidence = 1 - (1 - specificity * n/(n+1)) * 0.8 ** min(witnesses - 1, 4), never above
    `CONFIDENCE_CEILING`. One brown-out line (0.9, 1, 1) gives 0.45. Forty such lines, with the
    voltage of the same vehicle below its range in a second file (0.9, 40, 4), give 0.94.
    """
    belief = specificity * occurrences / (occurrences + 1)
    doubt = (1.0 - belief) * 0.8 ** min(max(witnesses - 1, 0), 4)
    return round(min(CONFIDENCE_CEILING, 1.0 - doubt), 3)


def rank(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings in a fixed order: by severity, then confidence, then title."""
    return sorted(findings, key=lambda f: (_GRADES[f.severity], -f.confidence, f.title))


def describe_spread(affected: Collection[str], judged: int) -> str:
    """Return a sentence that says whether the batch, one unit or some units share the cause.

    The text is empty if fewer than three files were judged.
    """
    if judged < 3:
        return ""
    seen = f"Seen in {len(affected)} of {judged} files"
    if len(affected) * 2 > judged:
        return f"{seen}: systemic, so suspect what they share, such as a release or a backend."
    if origin := common_origin(affected):
        return f"{seen}, all of {origin}: an outlier rather than a fleet problem."
    return f"{seen}: some units only, so look for what sets them apart."


def common_origin(names: Collection[str]) -> str | None:
    """Return the unit that all these files come from, or None if there are several."""
    origins = set(map(origin, names))
    return origins.pop() if len(origins) == 1 else None


def origin(name: str) -> str:
    """Return the unit that a file comes from: the part of its name before the first dot.

    The files of one vehicle share that part: vehicle-03.ota.log, vehicle-03.can.blf.
    """
    return name.partition(".")[0]
