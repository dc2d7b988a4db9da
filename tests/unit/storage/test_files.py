"""V-02: parts and sizes of uploaded files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skald.storage.files import MAX_PARTS, PART_BYTES, NewFile, part_sizes


@given(st.integers(0, MAX_PARTS * PART_BYTES))
def test_parts_make_up_the_file(size: int) -> None:
    """V-02: all parts but the last have 5 MiB; only an empty file has an empty part."""
    parts = part_sizes(size)
    assert sum(parts) == size
    assert set(parts[:-1]) <= {PART_BYTES}
    assert 0 < parts[-1] <= PART_BYTES or (size == 0 and parts == [0])
    assert len(parts) <= MAX_PARTS


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (0, [0]),
        (1, [1]),
        (PART_BYTES, [PART_BYTES]),
        (PART_BYTES + 1, [PART_BYTES, 1]),
        (2 * PART_BYTES, [PART_BYTES, PART_BYTES]),
    ],
)
def test_parts_at_the_edges(size: int, parts: list[int]) -> None:
    """V-02: S3 refuses parts below 5 MiB except the last."""
    assert part_sizes(size) == parts


@pytest.mark.parametrize("size", [-1, MAX_PARTS * PART_BYTES + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    """V-02: a size is refused below zero and above 10,000 parts."""
    with pytest.raises(ValidationError):
        NewFile(name="a.log", size=size)


@pytest.mark.parametrize("value", [False, True, "60", 60.0])
def test_a_size_is_a_number(value: object) -> None:
    """V-02: a value that only looks like an integer is refused."""
    with pytest.raises(ValidationError, match="size"):
        NewFile.model_validate({"name": "a.log", "size": value})
