"""V-13: the tokens of a model are sent in a few pieces."""

from batches.watching import PIECE_CHARACTERS, PIECE_SECONDS, Pieces


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_tokens_are_joined_until_they_are_of_some_age() -> None:
    """V-13: a thousand tokens are a few messages, and the first is sent soon."""
    clock = Clock()
    pieces = Pieces(clock)
    assert [pieces.add(token) for token in ("The ", "battery ")] == [[], []]
    clock.now += PIECE_SECONDS
    assert pieces.add("sags.") == ["The battery sags."]
    assert pieces.add(" Again") == [], "the age counts from the first token after that"
    assert pieces.rest() == [" Again"]
    assert pieces.rest() == []


def test_tokens_are_joined_until_they_are_of_some_size() -> None:
    """V-13: a piece has a maximum length, for any size of the tokens; nothing is lost."""
    pieces = Pieces(Clock())
    assert pieces.add("a" * (PIECE_CHARACTERS - 1)) == []
    assert pieces.add("b" * (2 * PIECE_CHARACTERS)) == [
        "a" * (PIECE_CHARACTERS - 1) + "b",
        "b" * PIECE_CHARACTERS,
        "b" * (PIECE_CHARACTERS - 1),
    ]
