"""The desk: all questions to the model pass it, a few at a time, none twice (V-13)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from skald.config import settings
from skald.errors import TooLarge
from skald.models import records
from skald.models.choice import chosen_model
from skald.models.interface import (
    Answer,
    Model,
    ModelBusy,
    ModelRefused,
    ModelUnreachable,
    OnText,
    Question,
)
from skald.models.pace import Pace
from skald.postgres import database
from skald.telemetry import Kind, metrics, span
from skald.valkey import valkey
from skald.valkey.semaphore import NoSlot, Semaphore

if TYPE_CHECKING:
    import redis

    from skald.postgres import Database

MAX_WORDS = 4_000
WAIT_SECONDS = 60.0
_BACKOFF_SECONDS = (0.2, 5.0)
_MARGIN_SECONDS = 5.0
"""How much longer a lease lasts than the call that it covers."""

_SLICE_SECONDS = 5.0
"""How long a queued asker waits before it looks again."""

type Renew = Callable[[], None]
"""Called every few seconds of a wait. It renews the asker's lease; it may raise to end the wait."""

_OUTCOMES: dict[type[BaseException], records.CallOutcome] = {
    ModelBusy: "busy",
    ModelUnreachable: "unreachable",
    ModelRefused: "refused",
}


class _AskedByAnother(NoSlot):
    """Another asker has the same question open: wait for its answer."""


@dataclass(frozen=True)
class _Asked:
    """A question on its way over the desk, owned by one asker."""

    question: Question
    key: bytes
    subject: str
    owner: UUID = field(default_factory=uuid4)


class Desk:
    """Asks a model: at most `places` calls at once over all functions.

    An identical question of one tenant is asked once. A second asker waits for the answer; within
    an hour it gets the stored one. The answer is committed before it is returned, so a crash after
    it costs no second call. Without Redis no call is made (`redis.RedisError`, temporary), so the
    limit of the provider always holds.
    """

    def __init__(
        self,
        model: Model,
        database: Database,
        client: redis.Redis,
        *,
        places: int = 20,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._model = model
        self._database = database
        self._client = client
        self._wait_seconds = wait_seconds
        self._pace = Pace(client, model.name, places)

    @classmethod
    def chosen(cls, offline: Model) -> Desk:
        """Return the desk of the model that the settings name, by default the offline expert."""
        places = settings().model_concurrency
        return cls(chosen_model(offline), database(), valkey(), places=places)

    @property
    def model(self) -> Model:
        return self._model

    def ask(
        self,
        question: Question,
        *,
        tenant_id: UUID,
        subject: str,
        on_text: OnText | None = None,
        renew: Renew = lambda: None,
    ) -> Answer:
        """Return the answer of the model, or the stored one. `subject` pays for the call.

        It queues and backs off for at most `wait_seconds`, then makes one last call. `on_text` gets
        a stored answer as a whole, and a repeated one from its start. Raises `NoSlot` when no place
        is free in time, `ModelBusy` or `ModelUnreachable` when the provider does not answer (all
        temporary), `ModelRefused` when it never will, `TooLarge` for a prompt that is too long to
        be features.
        """
        if len(question.prompt.split()) > MAX_WORDS:
            raise TooLarge(f"a prompt of more than {MAX_WORDS} words is no summary")
        if self._model.is_offline:
            return self._call(question, tenant_id, on_text)
        asked = _Asked(question, records.question_key(self._model.name, question), subject)
        answer = self._asked(asked, tenant_id, on_text, renew)
        if answer.is_repeated:
            self._note(tenant_id, asked, "repeated", 0.0)
            if on_text is not None:
                on_text(answer.text)
        return answer

    def _asked(
        self, asked: _Asked, tenant_id: UUID, on_text: OnText | None, renew: Renew
    ) -> Answer:
        """Ask until there is an answer or the time is over."""
        deadline = time.monotonic() + self._wait_seconds
        pause, longest = _BACKOFF_SECONDS
        while True:
            renew()
            with self._database.transaction(tenant_id) as tx:
                known = records.find(tx, asked.key)
            if known is not None:
                return known
            try:
                with self._semaphore(asked).held(min(_SLICE_SECONDS, self._wait_seconds)):
                    return self._at_the_desk(asked, tenant_id, on_text)
            except (NoSlot, ModelUnreachable, ModelBusy) as error:
                wait = max(pause, getattr(error, "retry_after", None) or 0.0)
                if time.monotonic() + wait > deadline:
                    raise
            time.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311 (no secret)
            pause = min(2 * pause, longest)

    def _at_the_desk(self, asked: _Asked, tenant_id: UUID, on_text: OnText | None) -> Answer:
        """Ask now, unless the same question was asked or is open."""
        lease = timedelta(seconds=asked.question.seconds + _MARGIN_SECONDS)
        with self._database.transaction(tenant_id) as tx:
            if not records.claim(tx, asked.key, asked.owner, lease):
                known = records.find(tx, asked.key)
                if known is None:
                    raise _AskedByAnother("an identical question is being asked right now")
                return known
        began = time.monotonic()
        try:
            answer = self._call(asked.question, tenant_id, on_text)
        except BaseException as error:
            with self._database.transaction(tenant_id) as tx:
                records.give_up(tx, asked.key, asked.owner)
            if isinstance(error, ModelBusy):
                self._pace.slow()
            if outcome := _OUTCOMES.get(type(error)):
                self._note(tenant_id, asked, outcome, time.monotonic() - began)
            raise
        self._keep(asked, tenant_id, answer, time.monotonic() - began)
        self._pace.gain()
        return answer

    def _call(self, question: Question, tenant_id: UUID, on_text: OnText | None) -> Answer:
        """Ask the model in a span with its tokens. A stored answer has no span (G-09)."""
        with span(Kind.MODEL, self._model.name, tenant_id=tenant_id, role=question.role) as call:
            answer = self._model.answer(question, on_text)
            call.attributes["input_tokens"] = answer.input_tokens
            call.attributes["output_tokens"] = answer.output_tokens
            return answer

    def _semaphore(self, asked: _Asked) -> Semaphore:
        return Semaphore(
            self._client,
            f"model:{self._model.name}",
            self._pace.places,
            lease_seconds=asked.question.seconds + _MARGIN_SECONDS,
        )

    def _keep(self, asked: _Asked, tenant_id: UUID, answer: Answer, seconds: float) -> None:
        call = records.ModelCall(
            asked.subject,
            asked.question.role,
            answer.model,
            "answered",
            int(seconds * 1000),
            answer.input_tokens,
            answer.output_tokens,
            answer.is_estimated,
        )
        with self._database.transaction(tenant_id) as tx:
            # The call is paid for in any case. The answer is kept if no other asker took the
            # question over.
            records.store(tx, asked.key, asked.owner, answer)
            records.note(tx, call)
        metrics.seconds("model_call_duration", seconds, model=answer.model)
        metrics.count("model_tokens_count", answer.input_tokens, model=answer.model, kind="input")
        metrics.count("model_tokens_count", answer.output_tokens, model=answer.model, kind="output")

    def _note(
        self, tenant_id: UUID, asked: _Asked, outcome: records.CallOutcome, seconds: float
    ) -> None:
        call = records.ModelCall(
            asked.subject, asked.question.role, self._model.name, outcome, int(seconds * 1000)
        )
        with self._database.transaction(tenant_id) as tx:
            records.note(tx, call)
        metrics.count("model_calls_count", model=self._model.name, outcome=outcome)
