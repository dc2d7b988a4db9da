"""Rubrics as a client of the grading API sends them."""

from typing import Any

from tests.integration.support import Client, Handler

RUBRIC = {
    "question": "What is a router?",
    "criteria": [{"name": "forwards packets", "points": 2}],
    "reference_answers": ["It forwards packets between networks."],
}


class GradingClient(Client):
    """A client of the grading API with one key."""

    def _handler(self) -> Handler:
        from grading.api import handler

        return handler


def rubric(**fields: Any) -> dict[str, Any]:
    return RUBRIC | fields


def path(question: str = "1.1", exam: str = "networks") -> str:
    return f"/exams/{exam}/questions/{question}/rubric"
