"""V-13: an endpoint with OpenAI's protocol, with correct and wrong answers."""

from contextlib import closing
from dataclasses import replace

import pytest
from tests.integration.model_endpoint import PIECE, ModelEndpoint, Reply, always, model_endpoint

from skald.models import Answer, ModelBusy, ModelRefused, ModelUnreachable, Question
from skald.models.openai_compatible import OpenAiCompatible

QUESTION = Question("judge", "Be brief.", "E2107 forty times", seconds=30.0)
WORDS = "The battery is weak, said the log, forty times over."


def ask(
    endpoint: ModelEndpoint, *, is_watched: bool = False, seconds: float = QUESTION.seconds
) -> tuple[Answer, list[str]]:
    heard: list[str] = []
    question = replace(QUESTION, seconds=seconds)
    with closing(OpenAiCompatible("fake", endpoint.url, "secret")) as model:
        return model.answer(question, heard.append if is_watched else None), heard


def test_a_question_and_its_answer() -> None:
    with model_endpoint(always(Reply(WORDS))) as endpoint:
        answer, _ = ask(endpoint)
    assert answer == Answer(WORDS, "openai:fake", 5, 10)
    (asked,) = endpoint.asked
    assert (asked.instructions, asked.prompt) == ("Be brief.", "E2107 forty times")
    assert (asked.body["model"], asked.body["max_tokens"]) == ("fake", 800)
    assert (asked.path, asked.key) == ("/v1/chat/completions", "Bearer secret")


def test_a_watched_answer_comes_in_pieces() -> None:
    with model_endpoint(always(Reply(WORDS))) as endpoint:
        answer, heard = ask(endpoint, is_watched=True)
    assert "".join(heard) == answer.text == WORDS
    assert len(heard) == 5
    assert (answer.input_tokens, answer.is_estimated) == (5, False)


@pytest.mark.parametrize("is_watched", [False, True])
def test_tokens_without_a_count_are_estimated(is_watched: bool) -> None:
    with model_endpoint(always(Reply(WORDS, is_counted=False))) as endpoint:
        answer, _ = ask(endpoint, is_watched=is_watched)
    assert answer.is_estimated
    assert (answer.input_tokens, answer.output_tokens) == (6, len(WORDS) // 4)


@pytest.mark.parametrize(
    ("reply", "condition"),
    [
        (Reply(status=429, retry_after="7"), ModelBusy),
        (Reply(status=500), ModelUnreachable),
        (Reply(status=503), ModelUnreachable),
        (Reply(status=400), ModelRefused),
        (Reply(status=401), ModelRefused),
        (Reply(status=404), ModelRefused),
    ],
)
@pytest.mark.parametrize("is_watched", [False, True])
def test_errors_by_what_can_be_done(
    reply: Reply, condition: type[Exception], is_watched: bool
) -> None:
    with model_endpoint(always(reply)) as endpoint, pytest.raises(condition) as raised:
        ask(endpoint, is_watched=is_watched)
    if isinstance(raised.value, ModelBusy):
        assert raised.value.retry_after == 7.0


@pytest.mark.parametrize("is_watched", [False, True])
def test_an_endpoint_that_is_silent_for_too_long_is_given_up(is_watched: bool) -> None:
    silent = always(Reply(seconds=1.5))
    with model_endpoint(silent) as endpoint, pytest.raises(ModelUnreachable):
        ask(endpoint, is_watched=is_watched, seconds=1.0)


def test_half_an_answer_is_none() -> None:
    with (
        model_endpoint(always(Reply(WORDS, break_after=2))) as endpoint,
        pytest.raises(ModelUnreachable),
    ):
        ask(endpoint, is_watched=True)


def test_a_slow_endpoint_does_not_exceed_the_timeout() -> None:
    """V-13: it would send for ten minutes, with short pauses only."""
    slow = Reply("x" * PIECE * 3_000, pause=0.2)
    with (
        model_endpoint(always(slow)) as endpoint,
        pytest.raises(ModelUnreachable, match="too long"),
    ):
        ask(endpoint, is_watched=True, seconds=1.0)


def test_an_endpoint_that_is_not_there() -> None:
    with (
        closing(OpenAiCompatible("fake", "http://127.0.0.1:9/v1")) as model,
        pytest.raises(ModelUnreachable, match="ConnectError"),
    ):
        model.answer(QUESTION)
