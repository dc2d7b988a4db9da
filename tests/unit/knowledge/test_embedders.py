"""V-09: the embedders and the setting that chooses one."""

import io
import json
import math
from collections.abc import Iterator

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

import skald.aws
from skald.aws import client
from skald.knowledge.embedders import (
    TIMEOUT_SECONDS,
    TITAN_DIMENSIONS,
    Bedrock,
    Local,
    OpenAiEmbedder,
    embedder_named,
)
from skald.knowledge.local import embed
from skald.models import ModelBusy, ModelRefused, ModelUnreachable


def closeness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(embed(one), embed(other), strict=True))


def test_vectors_have_length_one_and_never_change() -> None:
    """V-09: the same text gives the same vector, in every process."""
    vector = embed("E2107 BROWNOUT supply voltage 7.3 V")
    assert math.isclose(math.hypot(*vector), 1)
    assert vector == embed("E2107 BROWNOUT supply voltage 7.3 V")
    assert not any(embed("… — !"))


def test_related_words_are_closer_than_strange_ones() -> None:
    """V-09: word endings, parts of codes and misspellings match."""
    assert closeness("flashing failed", "flash failure") > closeness("flashing failed", "antenna")
    assert closeness("BAT_LOW", "low bat") > 0.5
    assert closeness("watchdgo reset", "watchdog resets") > closeness("watchdgo reset", "coolant")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("local", Local),
        ("bedrock:amazon.titan-embed-text-v2:0", Bedrock),
        ("openai:nomic-embed-text@http://127.0.0.1:11434", OpenAiEmbedder),
    ],
)
def test_the_setting_chooses(setting: str, kind: type) -> None:
    """V-09: the embedder has the name by which the setting chose it."""
    embedder = embedder_named(setting)
    assert isinstance(embedder, kind)
    assert embedder.name == setting


@pytest.mark.parametrize("setting", ["locally", "bedrock:", "openai:model", "openai:@http://h"])
def test_a_malformed_setting_shows_the_forms(setting: str) -> None:
    """V-09: the error lists the valid forms."""
    with pytest.raises(ValueError, match=r"EMBEDDER=.*openai:<model>@<base url>"):
        embedder_named(setting)


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    skald.aws._client.cache_clear()
    with Stubber(client("bedrock-runtime", read_seconds=TIMEOUT_SECONDS)) as stub:
        yield stub
    skald.aws._client.cache_clear()


def test_bedrock_embeds_one_text_a_call(bedrock: Stubber) -> None:
    """V-09: it returns a normalized vector of the space's length."""
    for number, text in enumerate(("weak", "battery")):
        body = {"inputText": text, "dimensions": TITAN_DIMENSIONS, "normalize": True}
        answer = json.dumps({"embedding": [0.0, float(number)]}).encode()
        response = {
            "body": StreamingBody(io.BytesIO(answer), len(answer)),
            "contentType": "application/json",
        }
        request = {"modelId": "amazon.titan", "body": json.dumps(body)}
        bedrock.add_response("invoke_model", response, request)
    assert Bedrock("amazon.titan").embed(["weak", "battery"]) == [[0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("code", "condition"),
    [
        ("ThrottlingException", ModelBusy),
        ("ServiceUnavailableException", ModelUnreachable),
        ("AccessDeniedException", ModelRefused),
    ],
)
def test_bedrocks_errors_by_what_can_be_done(
    bedrock: Stubber, code: str, condition: type[Exception]
) -> None:
    """V-13: the errors are those of models."""
    bedrock.add_client_error("invoke_model", code)
    with pytest.raises(condition, match=code):
        Bedrock("amazon.titan").embed(["weak"])
