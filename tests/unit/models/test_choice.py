"""V-13: one setting chooses the model."""

import pytest

from skald.models.choice import Choice


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("offline", Choice("offline")),
        ("local", Choice("offline")),
        (
            "bedrock:eu.anthropic.claude-sonnet-4-5-v1:0",
            Choice("bedrock", "eu.anthropic.claude-sonnet-4-5-v1:0"),
        ),
        (
            "openai:qwen3@http://127.0.0.1:11434/v1/",
            Choice("openai", "qwen3", "http://127.0.0.1:11434/v1"),
        ),
        (
            "openai:a@b@https://models.example/v1",
            Choice("openai", "a@b", "https://models.example/v1"),
        ),
    ],
)
def test_the_three_forms(value: str, choice: Choice) -> None:
    assert Choice.of("MODEL", value) == choice


@pytest.mark.parametrize(
    "value", ["", "gpt", "bedrock:", "openai:x", "openai:@http://h", "openai:x@h"]
)
def test_an_unknown_form_is_refused_with_the_known_ones(value: str) -> None:
    with pytest.raises(ValueError, match=r"bedrock:<model id>.*openai:<model>@<base url>"):
        Choice.of("MODEL", value)
