"""V-13: text that a model writes token by token reaches people in few pieces."""

from batches.watching import PIECE_CHARACTERS, PIECE_SECONDS, Pieces


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_tokens_are_joined_until_they_are_of_some_age() -> None:
    """V-13: a thousand tokens are few messages, and the first one comes soon."""
    clock = Clock()
    pieces = Pieces(clock)
    assert [pieces.add(token) for token in ("The ", "battery ")] == [[], []]
    clock.now += PIECE_SECONDS
    assert pieces.add("sags.") == ["The battery sags."]
    assert pieces.add(" Again") == [], "the age counts from the first token after that"
    assert pieces.rest() == [" Again"]
    assert pieces.rest() == []


def test_tokens_are_joined_until_they_are_of_some_size() -> None:
    """V-13: a piece has a greatest length for any input, and nothing is lost."""
    pieces = Pieces(Clock())
    assert pieces.add("a" * (PIECE_CHARACTERS - 1)) == []
    assert pieces.add("b" * (2 * PIECE_CHARACTERS)) == [
        "a" * (PIECE_CHARACTERS - 1) + "b",
        "b" * PIECE_CHARACTERS,
        "b" * (PIECE_CHARACTERS - 1),
    ]
