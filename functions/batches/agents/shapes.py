"""What the experts hand to each other, and the shapes a model's answers must have."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from batches.analysis.findings import KnowledgeSource
from batches.analysis.rules import Grade

OTHER = "other"
"""The cause of a claim that no rule stands for."""


def _cut(words: str) -> str:
    return words.strip()[:400]


type Prose = Annotated[str, AfterValidator(_cut)]
"""Words of a model: it may write on, nobody has to read on."""


class Quote(BaseModel):
    """Words a file is said to hold."""

    file: str
    text: str


class Observation(BaseModel):
    """What an expert sees in the features, and where; nothing of it is believed unchecked."""

    cause: str
    """The key of a rule, or `OTHER`."""
    error_codes: list[str] = Field(default_factory=list, max_length=20)
    files: list[str] = Field(default_factory=list, max_length=50)
    quotes: list[Quote] = Field(default_factory=list, max_length=10)
    why: Prose = ""


class Claim(Observation):
    """A cause that the diagnosis expert names; what a rule says of it is not asked again."""

    title: Prose = ""
    severity: Grade = "medium"
    certainty: float = Field(default=1.0, ge=0.0, le=1.0)
    recommended_action: Prose = ""


class Doubt(BaseModel):
    """A cause the rules see where the expert sees none."""

    cause: str
    files: list[str] = Field(max_length=50)
    why: Prose = ""


class LogReport(BaseModel):
    """What a log expert says of its share of the files."""

    summary: Prose
    observations: list[Observation] = Field(default_factory=list, max_length=15)


class Verdict(BaseModel):
    """What the diagnosis expert says of the batch."""

    summary: Prose
    claims: list[Claim] = Field(default_factory=list, max_length=20)
    doubts: list[Doubt] = Field(default_factory=list, max_length=20)
    unknowns: list[Prose] = Field(default_factory=list, max_length=10)


class OpenQuestion(BaseModel):
    """A code of one file that is not explained, or not well, and the words it came with."""

    model_config = ConfigDict(frozen=True)

    file: str
    code: str
    words: str
    count: int
    """How often the file has it."""
    suspect: str | None = None
    """The rule that may explain it."""


class Hit(BaseModel):
    """An entry of the knowledge base, and the open question it was found for."""

    question: OpenQuestion | None = None
    """None where the codes of the batch led to it."""
    subject: str
    """The rule its key names; empty where it names none."""
    closeness: float = 0.0
    """How alike the entry and the words of the question are, 0 to 1, whatever embedder found it."""
    source: KnowledgeSource
