"""Any endpoint that speaks OpenAI's chat completions: vLLM, Ollama, DeepSeek and many more."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skald.models.interface import (
    Answer,
    ModelBusy,
    ModelRefused,
    ModelUnreachable,
    OnText,
    Question,
)

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 5.0
_CHARACTERS_PER_TOKEN = 4
_QUOTED = 300
"""Characters of a provider's complaint that are passed on."""


class OpenAiCompatible:
    """Asks `<url>/chat/completions`; streams when somebody watches."""

    is_offline = False

    def __init__(self, model: str, url: str, api_key: str | None = None) -> None:
        self._model = model
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client: httpx.Client | None = None
        self._guard = threading.Lock()

    @property
    def name(self) -> str:
        return f"openai:{self._model}"

    def close(self) -> None:
        """Close the connections that are kept open between questions."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        deadline = time.monotonic() + question.seconds
        with self._response(question, streamed=on_text is not None) as response:
            pieces = _in_time(response.iter_text(), deadline)
            if on_text is None:
                return self._whole(question, "".join(pieces))
            return self._streamed(question, _lines(pieces), on_text)

    def _whole(self, question: Question, body: str) -> Answer:
        try:
            document = json.loads(body)
            text = document["choices"][0]["message"]["content"] or ""
        except (ValueError, LookupError, TypeError) as error:
            raise ModelUnreachable(f"{self.name} sent no answer: {body[:_QUOTED]!r}") from error
        return self._answer(question, text, document.get("usage"))

    def _streamed(self, question: Question, lines: Iterator[str], on_text: OnText) -> Answer:
        text, usage, ended = [], None, False
        for line in lines:
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                ended = True
                break
            event = _event(data)
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                if piece := (choice.get("delta") or {}).get("content"):
                    text.append(piece)
                    on_text(piece)
                ended = ended or choice.get("finish_reason") is not None
        if not ended:
            raise ModelUnreachable(f"{self.name} broke off in mid-answer")
        return self._answer(question, "".join(text), usage)

    def _answer(self, question: Question, text: str, usage: dict[str, Any] | None) -> Answer:
        if usage:
            said, wrote = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
            return Answer(text, self.name, said, wrote)
        said = len(question.instructions + question.prompt) // _CHARACTERS_PER_TOKEN
        return Answer(text, self.name, said, len(text) // _CHARACTERS_PER_TOKEN, is_estimated=True)

    def _connected(self) -> httpx.Client:
        import httpx

        with self._guard:
            if self._client is None:
                self._client = httpx.Client(headers=self._headers)
            return self._client

    @contextmanager
    def _response(self, question: Question, *, streamed: bool) -> Iterator[httpx.Response]:
        import httpx

        body: dict[str, Any] = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": question.instructions},
                {"role": "user", "content": question.prompt},
            ],
            "max_tokens": question.max_tokens,
            "temperature": 0,
            "stream": streamed,
        }
        if streamed:
            body["stream_options"] = {"include_usage": True}
        timeout = httpx.Timeout(question.seconds, connect=min(CONNECT_SECONDS, question.seconds))
        try:
            with self._connected().stream(
                "POST", f"{self._url}/chat/completions", json=body, timeout=timeout
            ) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _complaint(self.name, response)
                yield response
        except httpx.TransportError as error:
            raise ModelUnreachable(f"{self.name}: {type(error).__name__}: {error}") from error


def _in_time(pieces: Iterator[str], deadline: float) -> Iterator[str]:
    """Pass pieces on until time is up: a server that drips must not outlive its bound."""
    for piece in pieces:
        if time.monotonic() > deadline:
            raise ModelUnreachable("the answer took too long")
        yield piece


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    yield rest


def _event(data: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise ModelUnreachable(f"an unreadable piece of an answer: {data[:_QUOTED]!r}") from error
    if "error" in event:
        raise ModelUnreachable(f"broke off: {str(event['error'])[:_QUOTED]}")
    return event


def _complaint(name: str, response: httpx.Response) -> Exception:
    detail = f"{name}: HTTP {response.status_code}: {response.text[:_QUOTED]}"
    if response.status_code == 429:
        return ModelBusy(detail, retry_after(response.headers.get("Retry-After")))
    if response.status_code >= 500 or response.status_code == 408:
        return ModelUnreachable(detail)
    return ModelRefused(detail)


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header; a date in it counts as none."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
