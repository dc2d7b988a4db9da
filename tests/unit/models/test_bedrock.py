"""V-13: Bedrock's Converse, with its errors grouped by what a caller can do."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

import skald.aws
from skald.aws import client
from skald.models import ModelBusy, ModelRefused, ModelUnreachable, Question
from skald.models.bedrock import BedrockModel

QUESTION = Question("judge", "Be brief.", "E2107 forty times", max_tokens=9)
REQUEST = {
    "modelId": "amazon.nova",
    "system": [{"text": "Be brief."}],
    "messages": [{"role": "user", "content": [{"text": "E2107 forty times"}]}],
    "inferenceConfig": {"maxTokens": 9, "temperature": 0.0},
}


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    skald.aws._client.cache_clear()
    with Stubber(client("bedrock-runtime", retries=0)) as stub:
        yield stub
    skald.aws._client.cache_clear()


def test_a_question_is_one_converse_call(bedrock: Stubber) -> None:
    output = {"message": {"role": "assistant", "content": [{"text": "A "}, {"text": "sag."}]}}
    usage = {"inputTokens": 11, "outputTokens": 3, "totalTokens": 14}
    response: dict[str, Any] = {
        "output": output,
        "usage": usage,
        "stopReason": "end_turn",
        "metrics": {"latencyMs": 5},
    }
    bedrock.add_response("converse", response, REQUEST)
    answer = BedrockModel("amazon.nova").answer(QUESTION)
    assert (answer.text, answer.model) == ("A sag.", "bedrock:amazon.nova")
    assert (answer.input_tokens, answer.output_tokens, answer.is_estimated) == (11, 3, False)


def test_a_watched_answer_is_streamed(bedrock: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = [
        {"contentBlockDelta": {"delta": {"text": "A "}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "sag."}, "contentBlockIndex": 0}},
        {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}},
    ]
    requests: list[dict[str, Any]] = []

    def converse_stream(**request: Any) -> dict[str, Any]:
        requests.append(request)
        return {"stream": iter(stream)}

    # The stubber does not support event streams.
    monkeypatch.setattr(client("bedrock-runtime", retries=0), "converse_stream", converse_stream)
    heard: list[str] = []
    answer = BedrockModel("amazon.nova").answer(QUESTION, heard.append)
    assert requests == [REQUEST]
    assert heard == ["A ", "sag."]
    assert (answer.text, answer.output_tokens) == ("A sag.", 2)


@pytest.mark.parametrize(
    ("code", "condition"),
    [
        ("ThrottlingException", ModelBusy),
        ("ServiceQuotaExceededException", ModelBusy),
        ("ModelTimeoutException", ModelUnreachable),
        ("InternalServerException", ModelUnreachable),
        ("AccessDeniedException", ModelRefused),
        ("ValidationException", ModelRefused),
    ],
)
def test_errors_by_what_can_be_done(
    bedrock: Stubber, code: str, condition: type[Exception]
) -> None:
    bedrock.add_client_error("converse", code)
    with pytest.raises(condition, match=code):
        BedrockModel("amazon.nova").answer(QUESTION)
