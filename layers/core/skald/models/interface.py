"""What is asked of a model, what comes back, and what may go wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from skald.errors import Temporary

type OnText = Callable[[str], None]
"""Gets the answer's text piece by piece, as the model writes it."""


@dataclass(frozen=True)
class Question:
    """One question to a model: features in words, never raw logs (V-08)."""

    role: str
    """Which expert asks, for instance `log_expert`."""
    instructions: str
    """The system prompt."""
    prompt: str
    max_tokens: int = 800
    seconds: float = 30.0
    """How long one call may take, from the request to the last word."""
    facts: Any = field(default=None, repr=False, compare=False)
    """What an offline expert reads in place of the prompt; it never leaves the process."""


@dataclass(frozen=True)
class Answer:
    """What a model said, and what that cost in tokens."""

    text: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = False
    """The provider did not count: four characters are taken for a token."""
    is_repeated: bool = False
    """Answered from the record of an identical question: nobody was asked, nothing was paid."""


class Model(Protocol):
    """A model: `name` tells models apart, in records and in reports."""

    @property
    def name(self) -> str: ...

    @property
    def is_offline(self) -> bool:
        """Whether it works in this process: without a queue, a record or a cost."""
        ...

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        """Answer within `question.seconds`.

        Raises `ModelBusy`, `ModelUnreachable` (a retry may help) or `ModelRefused` (it will not).
        """
        ...


class ModelBusy(Temporary):
    """The provider wants fewer calls; `retry_after` in seconds where it said so."""

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ModelUnreachable(Temporary):
    """No whole answer came: a lost connection, a server error, or time ran out."""


class ModelRefused(Exception):
    """The provider will not answer this, however often it is asked: key, model or question."""
