"""Numbers and their nouns."""

import pytest

from batches.wording import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 files"), (1, "1 file"), (2, "2 files"), (144_484, "144,484 files")],
)
def test_a_noun_takes_the_form_its_number_asks_for(number: int, words: str) -> None:
    assert counted(number, "file") == words


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
