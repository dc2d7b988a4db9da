"""Embedders: what turns texts into vectors, chosen by one setting."""

import json
import os
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from skald.aws import client
from skald.knowledge import local

TITAN_DIMENSIONS = 1024
TIMEOUT_SECONDS = 30.0

type Vector = list[float]


class Embedder(Protocol):
    """Makes vectors of `dimensions` numbers; equal names mean equal vector spaces."""

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> list[Vector]: ...


def chosen_embedder() -> Embedder:
    """Return the embedder that the setting `EMBEDDER` names, `local` where it is not set."""
    return embedder_named(os.environ.get("EMBEDDER") or "local")


@cache
def embedder_named(name: str) -> Embedder:
    """Return `local`, `bedrock:<model id>` or `openai:<model>@<base url>`.

    Raises `ValueError` for any other form.
    """
    provider, _, rest = name.partition(":")
    model, _, url = rest.rpartition("@")
    if name == "local":
        return Local()
    if provider == "bedrock" and rest:
        return Bedrock(rest)
    if provider == "openai" and model and url:
        return OpenAiCompatible(model, url)
    raise ValueError(
        f"EMBEDDER is {name!r}; it takes local, bedrock:<model id> or openai:<model>@<base url>"
    )


class Local:
    """Hashed words and pieces of words: needs no model, no network, and never changes."""

    name = "local"
    dimensions = local.DIMENSIONS

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [local.embed(text) for text in texts]


class Bedrock:
    """A Titan text embedding model on Amazon Bedrock, one call a text."""

    dimensions = TITAN_DIMENSIONS

    def __init__(self, model: str) -> None:
        self.name = f"bedrock:{model}"
        self._model = model

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [self._embed(text) for text in texts]

    def _embed(self, text: str) -> Vector:
        body = {"inputText": text, "dimensions": self.dimensions, "normalize": True}
        answer = client("bedrock-runtime").invoke_model(modelId=self._model, body=json.dumps(body))
        vector: Vector = json.loads(answer["body"].read())["embedding"]
        return vector


class OpenAiCompatible:
    """An endpoint that speaks OpenAI's embeddings protocol; its first answer tells the length."""

    def __init__(self, model: str, url: str) -> None:
        self.name = f"openai:{model}@{url}"
        self._model = model
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/v1/embeddings"

    @property
    def dimensions(self) -> int:
        return _length_of(self)

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        import httpx

        key = os.environ.get("MODEL_API_KEY")
        answer = httpx.post(
            self._url,
            json={"model": self._model, "input": list(texts)},
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT_SECONDS,
        )
        answer.raise_for_status()
        data: list[dict[str, Any]] = answer.json()["data"]
        return [one["embedding"] for one in sorted(data, key=lambda one: one["index"])]


@cache
def _length_of(embedder: Embedder) -> int:
    return len(embedder.embed(["length"])[0])
