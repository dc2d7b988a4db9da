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
    PERCENTAGES,
    BatchStatus,
    NewBatch,
    batch_event,
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
    """V-03: for any sequence of requests, a batch goes through its states in their order."""
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
    """V-03: only completed and failed are final."""
    assert {status for status in BatchStatus if LIFE.is_final(status)} == {
        BatchStatus.COMPLETED,
        BatchStatus.FAILED,
    }


# Numbers ------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_percentage_is_a_number(done: int, extra: int) -> None:
    """V-11: between 0 and 100, 0 for an empty batch, never NaN."""
    value = percentage(done, done + extra)
    assert 0 <= value <= 100
    assert not math.isnan(value)
    assert percentage(0, 0) == 0
    if done:
        assert percentage(done, done) == 100


@pytest.mark.parametrize("seconds", [4, 1801])
def test_timeouts_have_bounds(seconds: int) -> None:
    """V-06: the gather is forced after 30 minutes at the latest."""
    with pytest.raises(ValidationError):
        NewBatch(name="a", timeout_seconds=seconds)
    assert NewBatch(name="a").timeout_seconds == 1800


@pytest.mark.parametrize("value", [False, True, "60", 60.0])
def test_numbers_are_numbers(value: object) -> None:
    """V-01: a value that only looks like an integer is refused."""
    with pytest.raises(ValidationError, match="timeout_seconds"):
        NewBatch.model_validate({"name": "a", "timeout_seconds": value})


# Events -------------------------------------------------------------------------------------------


def test_there_is_one_event_of_each_type_per_batch() -> None:
    """W-04: a repeated step publishes the same event; another batch has another event."""
    first, again = (batch_event("batch.uploaded", TENANT, BATCH, "t", n=n) for n in (1, 2))
    assert first.event_id == again.event_id
    assert first.event_id != batch_event("batch.failed", TENANT, BATCH, "t").event_id
    assert first.event_id != batch_event("batch.uploaded", TENANT, uuid4(), "t").event_id
    assert first.payload == {"batch_id": str(BATCH), "n": 1}
    assert (first.correlation_id, first.trace_id) == (str(BATCH), "t")


def test_the_stages_of_the_pipeline_come_in_the_order_of_their_percentages() -> None:
    """G-14: progress goes forward; at 100 the pipeline has ended, well or not."""
    stages = [status for status in BatchStatus if status in PERCENTAGES]
    percentages = [PERCENTAGES[stage] for stage in stages]
    assert percentages == sorted(percentages)
    assert {stage for stage in stages if PERCENTAGES[stage] == 100} == {
        stage for stage in BatchStatus if LIFE.is_final(stage)
    }
