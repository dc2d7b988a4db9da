"""Embedders turn texts into vectors; one setting chooses one (V-09)."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import batched
from typing import Any, Protocol

from skald.aws import client
from skald.config import settings
from skald.knowledge import local
from skald.models.bedrock import named_conditions
from skald.models.choice import Choice
from skald.models.endpoint import QUOTED, Endpoint
from skald.models.interface import ModelUnreachable

TITAN_DIMENSIONS = 1024
TEXTS_PER_REQUEST = 32
TIMEOUT_SECONDS = 30.0

type Vector = list[float]


class Embedder(Protocol):
    """Returns vectors of `dimensions` numbers. Embedders with one name have one vector space."""

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def is_remote(self) -> bool:
        """Whether it uses the network, so that no transaction that writes may call it."""
        ...

    def embed(self, texts: Sequence[str], seconds: float = TIMEOUT_SECONDS) -> list[Vector]:
        """Return a vector for each text. No call takes longer than `seconds`.

        Raises `ModelBusy`, `ModelUnreachable` (a retry may help) or `ModelRefused` (it will not).
        """
        ...


def chosen_embedder() -> Embedder:
    """Return the embedder that the setting `EMBEDDER` names, `local` by default."""
    return embedder_named(settings().embedder)


@cache
def embedder_named(name: str) -> Embedder:
    """Return `local`, `bedrock:<model id>` or `openai:<model>@<base url>`.

    Raises `ValueError` for any other form.
    """
    choice = Choice.of("EMBEDDER", name)
    match choice.provider:
        case "bedrock":
            return Bedrock(choice.model)
        case "openai":
            return OpenAiEmbedder(choice.model, choice.url, settings().model_api_key)
    return Local()


class Local:
    """Hashes words and pieces of words. It needs no model and no network, and never changes."""

    name = "local"
    dimensions = local.DIMENSIONS
    is_remote = False

    def embed(self, texts: Sequence[str], seconds: float = 0.0) -> list[Vector]:  # noqa: ARG002
        return [local.embed(text) for text in texts]


class Bedrock:
    """A Titan text embedding model on Amazon Bedrock; one call for each text."""

    dimensions = TITAN_DIMENSIONS
    is_remote = True

    def __init__(self, model: str) -> None:
        self.name = f"bedrock:{model}"
        self._model = model

    def embed(self, texts: Sequence[str], seconds: float = TIMEOUT_SECONDS) -> list[Vector]:
        with named_conditions(self.name):
            return [self._embed(text, seconds) for text in texts]

    def _embed(self, text: str, seconds: float) -> Vector:
        body = {"inputText": text, "dimensions": self.dimensions, "normalize": True}
        runtime = client("bedrock-runtime", read_seconds=seconds)
        answer = runtime.invoke_model(modelId=self._model, body=json.dumps(body))
        vector: Vector = json.loads(answer["body"].read())["embedding"]
        return vector


class OpenAiEmbedder:
    """Calls `<url>/embeddings` with some texts at a time. The first answer gives their length."""

    is_remote = True

    def __init__(self, model: str, url: str, api_key: str | None = None) -> None:
        self.name = f"openai:{model}@{url}"
        self._model = model
        self._endpoint = Endpoint(self.name, url, api_key)

    @property
    def dimensions(self) -> int:
        return _length_of(self)

    def close(self) -> None:
        """Close the connections that stay open between requests."""
        self._endpoint.close()

    def embed(self, texts: Sequence[str], seconds: float = TIMEOUT_SECONDS) -> list[Vector]:
        requests = batched(texts, TEXTS_PER_REQUEST, strict=False)
        return [vector for request in requests for vector in self._ask(request, seconds)]

    def _ask(self, texts: Iterable[str], seconds: float) -> list[Vector]:
        wanted = list(texts)
        body: dict[str, Any] = {"model": self._model, "input": wanted}
        with self._endpoint.response("/embeddings", body, seconds) as response:
            content = response.read()
        try:
            vectors = dict(_vectors(json.loads(content)))
            return [vectors[place] for place in range(len(wanted))]
        except (ValueError, LookupError, TypeError) as error:
            quoted = content[:QUOTED]
            raise ModelUnreachable(f"{self.name} sent no vectors: {quoted!r}") from error


def _vectors(document: dict[str, Any]) -> Iterator[tuple[int, Vector]]:
    for one in document["data"]:
        yield one["index"], one["embedding"]


@cache
def _length_of(embedder: Embedder) -> int:
    return len(embedder.embed(["length"])[0])
