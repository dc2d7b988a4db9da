"""V-01 to V-03, V-11: the rules of batches, without any I/O."""

import math
from itertools import pairwise, product
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batches.domain import (
    LIFE,
    MAX_PARTS,
    PART_BYTES,
    BatchStatus,
    NewBatch,
    NewFile,
    ObjectName,
    ParseJob,
    batch_event,
    parse_command,
    part_sizes,
    percentage,
)

ORDER = [
    "pending",
    "uploaded",
    "scattering",
    "scattered",
    "gathering",
    "gathered",
    "diagnosing",
    "completed",
]
TENANT, BATCH = UUID(int=1), UUID(int=2)


# The status machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), list(product(BatchStatus, BatchStatus)))
def test_transitions(before: BatchStatus, after: BatchStatus) -> None:
    """V-03: one state to the next, failed from any that is not final, and nothing else."""
    legal = (str(before), str(after)) in set(pairwise(ORDER)) or (
        after is BatchStatus.FAILED and before not in (BatchStatus.COMPLETED, BatchStatus.FAILED)
    )
    assert LIFE.may_become(before, after) is legal


@given(st.lists(st.sampled_from(list(BatchStatus)), max_size=30))
def test_no_walk_leaves_the_order(wishes: list[BatchStatus]) -> None:
    """V-03: whatever is asked for, a batch goes through its states in their order."""
    state, walk = BatchStatus.PENDING, [BatchStatus.PENDING]
    for wish in wishes:
        if LIFE.may_become(state, wish):
            state = wish
            walk.append(wish)
    names = [str(status) for status in walk]
    if names[-1] == "failed":
        names.pop()
        assert names[-1] != "completed"
    assert names == ORDER[: len(names)]


def test_final_states_are_final() -> None:
    """V-03: completed and failed, and no others, are the end."""
    assert {status for status in BatchStatus if LIFE.is_final(status)} == {
        BatchStatus.COMPLETED,
        BatchStatus.FAILED,
    }


# Parts and percentages ----------------------------------------------------------------------------


@given(st.integers(0, MAX_PARTS * PART_BYTES))
def test_parts_make_up_the_file(size: int) -> None:
    """V-02: every part but the last has 5 MiB, none is empty but that of an empty file."""
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
    """V-02: S3 refuses parts below 5 MiB but for the last."""
    assert part_sizes(size) == parts


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_percentage_is_a_number(done: int, extra: int) -> None:
    """V-11: between 0 and 100, 0 for an empty batch, never NaN."""
    value = percentage(done, done + extra)
    assert 0 <= value <= 100
    assert not math.isnan(value)
    assert percentage(0, 0) == 0
    if done:
        assert percentage(done, done) == 100


# Names --------------------------------------------------------------------------------------------

plain = st.text(min_size=1, max_size=200).filter(
    lambda t: t.isprintable() and not {"/", "\\"} & set(t) and t.strip(". ") != ""
)


@given(plain)
def test_a_key_says_whose_file_it_is(name: str) -> None:
    """C-06: tenant, batch and name survive the way into a key and back, whatever the script."""
    given = ObjectName(tenant_id=TENANT, batch_id=BATCH, name=name)
    assert ObjectName.of_key(given.key) == given


@given(st.text(max_size=300))
def test_any_key_is_read_or_refused(key: str) -> None:
    """C-06: no key breaks the reader; what it accepts is exactly that key's name."""
    for candidate in (key, f"{TENANT}/{BATCH}/{key}", f"{TENANT}/{key}"):
        read = ObjectName.of_key(candidate)
        if read is not None:
            assert read.name.isprintable()
            assert "/" not in read.name
            assert UUID(candidate.split("/")[0]) == read.tenant_id
            assert candidate.endswith(f"/{read.name}")


@pytest.mark.parametrize(
    "name",
    [
        "Ä b+c%20.log",
        "日志 (1).ulg",
        "a&b=c?#.log",
        "🚗.blf",
        "%2e%2e",
        "a" * 200,
        ".hidden",
        "..x",
    ],
)
def test_unusual_names_are_names(name: str) -> None:
    """V-02: printable and without slashes is enough."""
    assert NewFile(name=name, size=1).name == name
    assert ObjectName.of_key(f"{TENANT}/{BATCH}/{name}") is not None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", " ", ". .", "a/b", "../a", "a\\b", "a\nb", "a\0b", "a\u202eb", "a" * 201],
)
def test_hostile_names_are_refused(name: str) -> None:
    """Q-10: nothing that could leave its folder, or forge a log line."""
    with pytest.raises(ValidationError):
        NewFile(name=name, size=1)
    assert ObjectName.of_key(f"{TENANT}/{BATCH}/{name}") is None


@pytest.mark.parametrize(
    "key",
    ["", "/", "///", f"{TENANT}", f"{TENANT}/{BATCH}", f"/{TENANT}/{BATCH}/a", f"x/{BATCH}/a"],
)
def test_other_keys_are_not_ours(key: str) -> None:
    """C-06: what names no tenant, batch and file is ignored, not guessed at."""
    assert ObjectName.of_key(key) is None


def test_the_same_name_in_the_same_batch_is_the_same_file() -> None:
    """V-14: the id is derived, so the API and the notification agree without talking."""

    def file_id(batch_id: UUID, name: str) -> UUID:
        return ObjectName(tenant_id=TENANT, batch_id=batch_id, name=name).file_id

    assert file_id(BATCH, "a.log") == file_id(BATCH, "a.log")
    assert len({file_id(BATCH, "a.log"), file_id(BATCH, "b.log"), file_id(uuid4(), "a.log")}) == 3


@pytest.mark.parametrize("size", [-1, MAX_PARTS * PART_BYTES + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    """V-02: from nothing to 10,000 parts."""
    with pytest.raises(ValidationError):
        NewFile(name="a.log", size=size)


@pytest.mark.parametrize("seconds", [4, 1801])
def test_timeouts_have_bounds(seconds: int) -> None:
    """V-06: the gather is forced after 30 minutes at the latest."""
    with pytest.raises(ValidationError):
        NewBatch(name="a", timeout_seconds=seconds)
    assert NewBatch(name="a").timeout_seconds == 1800


@pytest.mark.parametrize("value", [False, True, "60", 60.0])
def test_numbers_are_numbers(value: object) -> None:
    """V-01, V-02: what only looks like an integer is refused, not taken for one."""
    with pytest.raises(ValidationError, match="size"):
        NewFile.model_validate({"name": "a.log", "size": value})
    with pytest.raises(ValidationError, match="timeout_seconds"):
        NewBatch.model_validate({"name": "a", "timeout_seconds": value})


# Events -------------------------------------------------------------------------------------------


def test_there_is_one_event_of_each_type_per_batch() -> None:
    """W-04: a repeated step publishes the same event, another batch another."""
    first, again = (batch_event("batch.uploaded", TENANT, BATCH, "t", n=n) for n in (1, 2))
    assert first.event_id == again.event_id
    assert first.event_id != batch_event("batch.failed", TENANT, BATCH, "t").event_id
    assert first.event_id != batch_event("batch.uploaded", TENANT, uuid4(), "t").event_id
    assert first.payload == {"batch_id": str(BATCH), "n": 1}
    assert (first.correlation_id, first.trace_id) == (str(BATCH), "t")


def test_each_file_has_one_parse_command() -> None:
    """V-04: commands of different files do not wait for each other, each has an id of its own."""
    jobs = [ParseJob(batch_id=BATCH, file_id=uuid4()) for _ in range(2)]
    one, two = (parse_command(TENANT, job, "t") for job in jobs)
    assert one.event_id == parse_command(TENANT, jobs[0], "t").event_id != two.event_id
    assert one.target_id != two.target_id
    assert ParseJob.model_validate(one.payload) == jobs[0]
