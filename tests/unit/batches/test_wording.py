"""Numbers with their nouns, and the ends of long texts."""

import pytest

from batches.wording import counted, shortened


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 files"), (1, "1 file"), (2, "2 files"), (144_484, "144,484 files")],
)
def test_a_noun_takes_the_form_its_number_asks_for(number: int, words: str) -> None:
    assert counted(number, "file") == words


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]


@pytest.mark.parametrize(
    ("text", "shown"), [("bus off", "bus off"), ("bus heavy", "bus he…"), ("go to a bus", "go to…")]
)
def test_a_text_that_was_cut_says_so(text: str, shown: str) -> None:
    assert shortened(text, 7) == shown
