"""Answers of a given shape: validated, repaired once, then refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from skald.models.interface import Answer, Question

ERRORS_TOLD = 5


class Unusable(Exception):
    """The answer did not have the wanted shape, and a second one with the errors did not either."""


def ask_for[Shape: BaseModel](
    shape: type[Shape], question: Question, ask: Callable[[Question], Answer]
) -> Shape:
    """Return the answer as a `shape`. A malformed answer is asked for once more, with its errors.

    Raises `Unusable` after that.
    """
    first = ask(question)
    try:
        return _read(shape, first.text)
    except ValueError as error:
        complaint = _complaint(error)
    second = ask(_again(question, first, complaint))
    try:
        return _read(shape, second.text)
    except ValueError as error:
        raise Unusable(f"{second.model}, {question.role}: {_complaint(error)}") from error


def _again(question: Question, answer: Answer, complaint: str) -> Question:
    prompt = (
        f"{question.prompt}\n\nYour last answer was:\n{answer.text[:2000]}\n\n"
        f"It cannot be used: {complaint}\nAnswer again with one JSON object and nothing else."
    )
    return replace(question, prompt=prompt)


def _read[Shape: BaseModel](shape: type[Shape], text: str) -> Shape:
    return shape.model_validate(_only_object(text))


def _only_object(text: str) -> dict[str, Any]:
    """Return the first JSON object of a text, with any text around it."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except ValueError:
            start = text.find("{", start + 1)
            continue
        if isinstance(found, dict):
            return found
        start = text.find("{", start + 1)
    raise ValueError("there is no JSON object in it")


def _complaint(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    wrong = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in wrong]
    return "; ".join(told[:ERRORS_TOLD])
