"""One turn of an agent: it asks the model, informs the watcher and adds a reasoning step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel

from batches.agents.offline import OfflineExpert
from batches.analysis.findings import ReasoningStep
from skald.models import Answer, ModelRefused, Question, Unusable, ask_for
from skald.telemetry import logger

if TYPE_CHECKING:
    from batches.agents.interface import Case, Watcher
    from skald.models import Desk


@dataclass
class Turn:
    """What one agent asks, what it concludes, and what that costs."""

    node: str
    case: Case
    desk: Desk
    watcher: Watcher | None
    summary: str = ""
    notes: list[str] = field(default_factory=list)
    """Remarks for the report, for example that the rules replaced a model."""
    _answers: list[Answer] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    @property
    def step(self) -> ReasoningStep:
        """The turn as a step of the reasoning path; its time in seconds."""
        return ReasoningStep(
            node=self.node,
            summary=self.summary,
            model=self._answers[-1].model if self._answers else None,
            seconds=round(time.monotonic() - self._began, 3),
            input_tokens=sum(one.input_tokens for one in self._answers),
            output_tokens=sum(one.output_tokens for one in self._answers),
        )

    def ask[Shape: BaseModel](self, shape: type[Shape], question: Question) -> Shape:
        """Ask the desk's model; if its answer is not usable, ask the offline expert."""
        try:
            return ask_for(shape, question, self._ask)
        except (Unusable, ModelRefused) as error:
            logger.warning("the rules answer instead of a model", extra={"error": str(error)})
            self.notes.append(
                f"{self.node}: {self.desk.model.name} gave no usable answer"
                f" ({type(error).__name__}), so the rules answered instead"
            )
            return ask_for(shape, question, self._stand_in)

    def _ask(self, question: Question) -> Answer:
        answer = self.desk.ask(
            question,
            tenant_id=self.case.tenant_id,
            subject=str(self.case.batch_id),
            on_text=_prose(self._say),
        )
        self._answers.append(answer)
        return answer

    def _stand_in(self, question: Question) -> Answer:
        answer = OfflineExpert().answer(question)
        self._answers.append(answer)
        return answer

    def _say(self, text: str) -> None:
        self.tell(lambda watcher: watcher.said(self.node, text))

    def tell(self, news: Callable[[Watcher], None]) -> None:
        """Call the watcher; log an exception of the watcher and go on."""
        if self.watcher is None:
            return
        try:
            news(self.watcher)
        except Exception:
            logger.warning("a watcher failed", exc_info=True, extra={"node": self.node})


@contextmanager
def turn(node: str, case: Case, desk: Desk, watcher: Watcher | None) -> Iterator[Turn]:
    """Begin an agent's turn; tell the watcher when it begins and when it ends."""
    one = Turn(node, case, desk, watcher)
    one.tell(lambda watcher: watcher.entered(node))
    yield one
    one.tell(lambda watcher: watcher.finished(node, one.summary))


def _prose(say: Callable[[str], None]) -> Callable[[str], None]:
    """Pass on the text before the JSON object of an answer; only that text is for people."""
    is_over = False

    def hear(piece: str) -> None:
        nonlocal is_over
        words, brace, _ = piece.partition("{")
        if words and not is_over:
            say(words)
        is_over = is_over or bool(brace)

    return hear
