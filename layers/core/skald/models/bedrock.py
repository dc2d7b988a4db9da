"""Amazon Bedrock through its Converse operations: one form for all its models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skald.aws import client
from skald.models.interface import (
    Answer,
    ModelBusy,
    ModelRefused,
    ModelUnreachable,
    OnText,
    Question,
)

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient

_BUSY = {"ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException"}
_TEMPORARY = {
    "ModelTimeoutException",
    "ModelNotReadyException",
    "ServiceUnavailableException",
    "InternalServerException",
    "ModelStreamErrorException",
    "modelStreamErrorException",
    "internalServerException",
    "serviceUnavailableException",
}


class BedrockModel:
    """Asks a model by its Bedrock id or inference profile. Streams when `on_text` is given."""

    is_offline = False

    def __init__(self, model_id: str) -> None:
        self._model_id = model_id

    @property
    def name(self) -> str:
        return f"bedrock:{self._model_id}"

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        request: dict[str, Any] = {
            "modelId": self._model_id,
            "system": [{"text": question.instructions}],
            "messages": [{"role": "user", "content": [{"text": question.prompt}]}],
            "inferenceConfig": {"maxTokens": question.max_tokens, "temperature": 0.0},
        }
        # Only the desk repeats a call, because it counts them.
        runtime = client("bedrock-runtime", read_seconds=question.seconds, retries=0)
        with named_conditions(self.name):
            if on_text is None:
                return self._whole(runtime, request)
            return self._streamed(runtime, request, question.seconds, on_text)

    def _whole(self, runtime: BedrockRuntimeClient, request: dict[str, Any]) -> Answer:
        response = runtime.converse(**request)
        content = response["output"]["message"]["content"]
        text = "".join(block.get("text", "") for block in content)
        return self._answer(text, dict(response["usage"]))

    def _streamed(
        self,
        runtime: BedrockRuntimeClient,
        request: dict[str, Any],
        seconds: float,
        on_text: OnText,
    ) -> Answer:
        deadline = time.monotonic() + seconds
        text: list[str] = []
        usage: dict[str, Any] = {}
        for event in runtime.converse_stream(**request)["stream"]:
            if time.monotonic() > deadline:
                raise ModelUnreachable(f"{self.name}: the answer took too long")
            if piece := event.get("contentBlockDelta", {}).get("delta", {}).get("text"):
                text.append(piece)
                on_text(piece)
            usage = dict(event.get("metadata", {}).get("usage", usage))
        return self._answer("".join(text), usage)

    def _answer(self, text: str, usage: dict[str, Any]) -> Answer:
        return Answer(text, self.name, usage.get("inputTokens", 0), usage.get("outputTokens", 0))


@contextmanager
def named_conditions(name: str) -> Iterator[None]:
    """Raise an error of boto3 in the block as the condition that it means for a caller."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:  # EventStreamError, which ends a stream, is one of them
        code = error.response.get("Error", {}).get("Code", "")
        if code in _BUSY or code.lower() == "throttlingexception":
            raise ModelBusy(f"{name}: {error}") from error
        if code in _TEMPORARY:
            raise ModelUnreachable(f"{name}: {error}") from error
        raise ModelRefused(f"{name}: {error}") from error
    except (HTTPClientError, HTTPError) as error:  # the latter when a stream breaks off
        raise ModelUnreachable(f"{name}: {error}") from error
    except BotoCoreError as error:  # no credentials, no region
        raise ModelRefused(f"{name}: {error}") from error
