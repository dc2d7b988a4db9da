"""V-08: an answer has the requested shape, or is repaired once, or is not used."""

import pytest
from pydantic import BaseModel, Field

from skald.models import Answer, Question, Unusable, ask_for


class Verdict(BaseModel):
    cause: str
    confidence: float = Field(ge=0, le=1)


QUESTION = Question("judge", "Answer in JSON.", "E2107 forty times")


class Scripted:
    """A model that returns answers from a list, and keeps its prompts."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)
        self.asked: list[Question] = []

    def __call__(self, question: Question) -> Answer:
        self.asked.append(question)
        return Answer(self._texts.pop(0), "scripted")


@pytest.mark.parametrize(
    "text",
    [
        '{"cause": "sag", "confidence": 0.9}',
        'Sure!\n```json\n{"cause": "sag", "confidence": 0.9}\n```\nAnything else?',
        'I see {braces} here. {"cause": "sag", "confidence": 0.9} {"cause": "no", "confidence": 0}',
    ],
)
def test_one_object_is_found_in_any_surrounding_text(text: str) -> None:
    model = Scripted(text)
    assert ask_for(Verdict, QUESTION, model) == Verdict(cause="sag", confidence=0.9)
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    "text", ["no object", '{"cause": "sag"}', '{"cause": 1, "confidence": 7}', ""]
)
def test_a_wrong_shape_is_repaired_once_with_its_errors(text: str) -> None:
    model = Scripted(text, '{"cause": "sag", "confidence": 0.4}')
    assert ask_for(Verdict, QUESTION, model).confidence == 0.4
    repair = model.asked[1].prompt
    assert repair.startswith(QUESTION.prompt)
    assert "confidence" in repair or "no JSON object" in repair


def test_twice_wrong_is_unusable() -> None:
    model = Scripted("no", "never")
    with pytest.raises(Unusable, match="scripted, judge: there is no JSON object"):
        ask_for(Verdict, QUESTION, model)
    assert len(model.asked) == 2
