"""Questions to models, their answers and their errors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from skald.errors import Temporary

type OnText = Callable[[str], None]
"""Gets the text of the answer piece by piece, as the model writes it."""


@dataclass(frozen=True)
class Question:
    """One question to a model: features in words, never raw logs (V-08)."""

    role: str
    """The expert that asks, such as `log_expert`."""
    instructions: str
    """The system prompt."""
    prompt: str
    max_tokens: int = 800
    seconds: float = 30.0
    """How long one call may take, from the request to the last word."""
    facts: Any = field(default=None, repr=False, compare=False)
    """What an offline expert reads instead of the prompt. It stays in the process."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model, and its cost in tokens."""

    text: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = False
    """The provider did not count tokens: four characters count as one."""
    is_repeated: bool = False
    """This is the stored answer of an identical question: no call was made."""


class Model(Protocol):
    """A model. `name` names it in records and in reports."""

    @property
    def name(self) -> str: ...

    @property
    def is_offline(self) -> bool:
        """Whether it works in this process, without a queue, a record or a cost."""
        ...

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        """Answer within `question.seconds`.

        Raises `ModelBusy`, `ModelUnreachable` (a retry may help) or `ModelRefused` (it will not).
        """
        ...


class ModelBusy(Temporary):
    """The provider wants fewer calls. `retry_after` is in seconds, if it was given."""

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ModelUnreachable(Temporary):
    """No complete answer: a lost connection, a server error or a timeout."""


class ModelRefused(Exception):
    """The provider will never answer this: the key, the model or the question is wrong."""
