"""The data that experts exchange, and the schemas of a model's answers."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from batches.analysis.findings import KnowledgeSource
from batches.analysis.rules import Grade

OTHER = "other"
"""The cause of a claim for which there is no rule."""


def _cut(words: str) -> str:
    return words.strip()[:400]


type ModelText = Annotated[str, AfterValidator(_cut)]
"""Text of a model; the part after 400 characters is cut off."""


class Quote(BaseModel):
    """Text that a file contains, according to the expert."""

    file: str
    text: str


class Observation(BaseModel):
    """What an expert sees in the features, and where; every part is checked before use."""

    cause: str
    """The key of a rule, or `OTHER`."""
    error_codes: list[str] = Field(default_factory=list, max_length=20)
    files: list[str] = Field(default_factory=list, max_length=50)
    quotes: list[Quote] = Field(default_factory=list, max_length=10)
    why: ModelText = ""


class Claim(Observation):
    """A cause that the diagnosis expert names; if a rule knows the cause, its texts apply."""

    title: ModelText = ""
    severity: Grade = "medium"
    certainty: float = Field(default=1.0, ge=0.0, le=1.0)
    recommended_action: ModelText = ""


class Doubt(BaseModel):
    """A cause that the rules see and the expert denies."""

    cause: str
    files: list[str] = Field(max_length=50)
    why: ModelText = ""


class LogReport(BaseModel):
    """What a log expert says about its share of the files."""

    summary: ModelText
    observations: list[Observation] = Field(default_factory=list, max_length=15)


class Verdict(BaseModel):
    """What the diagnosis expert says about the batch."""

    summary: ModelText
    claims: list[Claim] = Field(default_factory=list, max_length=20)
    doubts: list[Doubt] = Field(default_factory=list, max_length=20)
    unknowns: list[ModelText] = Field(default_factory=list, max_length=10)


class OpenQuestion(BaseModel):
    """A code of one file that has no sure explanation, and the words of its message."""

    model_config = ConfigDict(frozen=True)

    file: str
    code: str
    words: str
    count: int
    """How often the code occurs in the file."""
    suspect: str | None = None
    """The key of the rule that may explain it."""


class Hit(BaseModel):
    """An entry of the knowledge base, and the open question that it answers."""

    question: OpenQuestion | None = None
    """None if the search was by the codes of the batch."""
    subject: str
    """The rule that its key names; empty if it names none."""
    closeness: float = 0.0
    """The similarity of the entry to the words of the question, 0 to 1, by the local embedder."""
    source: KnowledgeSource
