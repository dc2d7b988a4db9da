"""Any endpoint that speaks OpenAI's chat completions: vLLM, Ollama, DeepSeek and many more."""

import json
import time
from collections.abc import Iterator
from typing import Any

from skald.models.endpoint import QUOTED, Endpoint
from skald.models.interface import Answer, ModelUnreachable, OnText, Question

_CHARACTERS_PER_TOKEN = 4


class OpenAiCompatible:
    """Calls `<url>/chat/completions`. Streams when `on_text` is given."""

    is_offline = False

    def __init__(self, model: str, url: str, api_key: str | None = None) -> None:
        self._model = model
        self._endpoint = Endpoint(self.name, url, api_key)

    @property
    def name(self) -> str:
        return f"openai:{self._model}"

    def close(self) -> None:
        """Close the connections that stay open between questions."""
        self._endpoint.close()

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        deadline = time.monotonic() + question.seconds
        body = self._body(question, streamed=on_text is not None)
        with self._endpoint.response("/chat/completions", body, question.seconds) as response:
            pieces = _in_time(response.iter_text(), deadline)
            if on_text is None:
                return self._whole(question, "".join(pieces))
            return self._streamed(question, _lines(pieces), on_text)

    def _whole(self, question: Question, body: str) -> Answer:
        try:
            document = json.loads(body)
            text = document["choices"][0]["message"]["content"] or ""
        except (ValueError, LookupError, TypeError) as error:
            raise ModelUnreachable(f"{self.name} sent no answer: {body[:QUOTED]!r}") from error
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

    def _body(self, question: Question, *, streamed: bool) -> dict[str, Any]:
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
        return body


def _in_time(pieces: Iterator[str], deadline: float) -> Iterator[str]:
    """Pass pieces on until the time is over: a slow stream must end, too."""
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
        raise ModelUnreachable(f"an unreadable piece of an answer: {data[:QUOTED]!r}") from error
    if "error" in event:
        raise ModelUnreachable(f"broke off: {str(event['error'])[:QUOTED]}")
    return event
