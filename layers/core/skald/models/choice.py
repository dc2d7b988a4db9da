"""Which model answers: one setting in one of three forms."""

import re
from functools import cache
from typing import Literal, NamedTuple

from skald.config import settings
from skald.models.interface import Model

_FORM = re.compile(
    r"(?P<offline>offline|local)"
    r"|bedrock:(?P<bedrock>\S+)"
    r"|openai:(?P<openai>[^\s@]+(?:@[^\s@/]+)*)@(?P<url>https?://\S+)"
)


class Choice(NamedTuple):
    """A provider, the name of its model, and where an OpenAI-compatible endpoint is."""

    provider: Literal["offline", "bedrock", "openai"]
    model: str = ""
    url: str = ""

    @classmethod
    def of(cls, setting: str, value: str) -> "Choice":
        """Read `offline` (or `local`), `bedrock:<model id>` or `openai:<model>@<base url>`.

        Raises `ValueError` with the three forms for any other text.
        """
        form = _FORM.fullmatch(value.strip())
        if form is None:
            raise ValueError(
                f"{setting}={value!r} is none of: offline, bedrock:<model id>,"
                " openai:<model>@<base url> such as openai:qwen3@http://127.0.0.1:11434/v1"
            )
        if form["bedrock"]:
            return cls("bedrock", form["bedrock"])
        if form["openai"]:
            return cls("openai", form["openai"], form["url"].rstrip("/"))
        return cls("offline")


def chosen_model(offline: Model) -> Model:
    """Return the model that the setting `MODEL` names, by default the given offline expert."""
    choice = Choice.of("MODEL", settings().model)
    match choice.provider:
        case "bedrock":
            from skald.models.bedrock import BedrockModel

            return BedrockModel(choice.model)
        case "openai":
            return _connected(choice, settings().model_api_key)
    return offline


@cache
def _connected(choice: Choice, api_key: str | None) -> Model:
    """Return the client of this environment. Its connections stay open between questions."""
    from skald.models.openai_compatible import OpenAiCompatible

    return OpenAiCompatible(choice.model, choice.url, api_key)
