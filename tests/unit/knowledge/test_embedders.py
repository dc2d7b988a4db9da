"""V-09: the embedders and the setting that chooses one."""

import math

import pytest

from skald.knowledge.embedders import Bedrock, Local, OpenAiCompatible, embedder_named
from skald.knowledge.local import embed


def closeness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(embed(one), embed(other), strict=True))


def test_vectors_have_length_one_and_never_change() -> None:
    """V-09: the same text gives the same vector, in every process."""
    vector = embed("E2107 BROWNOUT supply voltage 7.3 V")
    assert math.isclose(math.hypot(*vector), 1)
    assert vector == embed("E2107 BROWNOUT supply voltage 7.3 V")
    assert not any(embed("… — !"))


def test_related_words_are_closer_than_strange_ones() -> None:
    """V-09: endings, parts of codes and misspellings still meet."""
    assert closeness("flashing failed", "flash failure") > closeness("flashing failed", "antenna")
    assert closeness("BAT_LOW", "low bat") > 0.5
    assert closeness("watchdgo reset", "watchdog resets") > closeness("watchdgo reset", "coolant")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("local", Local),
        ("bedrock:amazon.titan-embed-text-v2:0", Bedrock),
        ("openai:nomic-embed-text@http://127.0.0.1:11434", OpenAiCompatible),
    ],
)
def test_the_setting_chooses(setting: str, kind: type) -> None:
    """V-09: the embedder's name is the setting that chose it."""
    embedder = embedder_named(setting)
    assert isinstance(embedder, kind)
    assert embedder.name == setting


@pytest.mark.parametrize("setting", ["locally", "bedrock:", "openai:model", "openai:@url"])
def test_a_malformed_setting_shows_the_forms(setting: str) -> None:
    """V-09: a wrong setting says what it takes."""
    with pytest.raises(ValueError, match="local, bedrock:<model id> or openai:<model>@<base url>"):
        embedder_named(setting)
