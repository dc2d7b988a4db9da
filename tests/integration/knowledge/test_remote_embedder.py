"""V-09: an embedder behind an endpoint with OpenAI's protocol, with correct and wrong answers."""

from contextlib import closing

import pytest
from tests.integration.model_endpoint import (
    DIMENSIONS,
    ModelEndpoint,
    Reply,
    always,
    model_endpoint,
    vector,
)

from skald.config import settings
from skald.knowledge import embedders
from skald.knowledge.embedders import TEXTS_PER_REQUEST, OpenAiEmbedder
from skald.models import ModelBusy, ModelRefused, ModelUnreachable


def embedded(endpoint: ModelEndpoint, *texts: str, seconds: float = 30.0) -> list[list[float]]:
    with closing(OpenAiEmbedder("fake", endpoint.url, "secret")) as embedder:
        return embedder.embed(texts, seconds)


def test_texts_and_their_vectors() -> None:
    """V-09: texts are sent in groups with the key; vectors come back in the order of the texts."""
    texts = [f"text {number}" for number in range(TEXTS_PER_REQUEST + 1)]
    with model_endpoint() as endpoint:
        assert embedded(endpoint, *texts) == [vector(text) for text in texts]
    assert [len(asked.body["input"]) for asked in endpoint.asked] == [TEXTS_PER_REQUEST, 1]
    assert {(asked.path, asked.key) for asked in endpoint.asked} == {
        ("/v1/embeddings", "Bearer secret")
    }


def test_the_setting_is_all_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """V-09: endpoint and key are read as for the model; the endpoint gives the length."""
    with model_endpoint() as endpoint:
        monkeypatch.setenv("EMBEDDER", endpoint.setting)
        monkeypatch.setenv("MODEL_API_KEY", "secret")
        settings.cache_clear()
        embedders.embedder_named.cache_clear()
        embedder = embedders.chosen_embedder()
        assert isinstance(embedder, OpenAiEmbedder)
        with closing(embedder):
            assert (embedder.name, embedder.dimensions) == (endpoint.setting, DIMENSIONS)
    assert [asked.key for asked in endpoint.asked] == ["Bearer secret"]
    settings.cache_clear()
    embedders.embedder_named.cache_clear()


@pytest.mark.parametrize(
    ("reply", "condition"),
    [
        (Reply(status=429, retry_after="7"), ModelBusy),
        (Reply(status=503), ModelUnreachable),
        (Reply(status=401), ModelRefused),
    ],
)
def test_errors_by_what_can_be_done(reply: Reply, condition: type[Exception]) -> None:
    """V-13: the errors are those of models."""
    with model_endpoint(always(reply)) as endpoint, pytest.raises(condition):
        embedded(endpoint, "text")


def test_no_wait_is_without_an_end() -> None:
    """V-13: the timeouts are those of models."""
    silent = always(Reply(seconds=1.0))
    with model_endpoint(silent) as endpoint, pytest.raises(ModelUnreachable):
        embedded(endpoint, "text", seconds=0.5)
