"""V-10: a report names its stages, and a failed batch its reason."""

from datetime import UTC, datetime, timedelta

import pytest

from batches.domain import BatchProgress, BatchStatus
from batches.publishing import cause, stage_seconds

START = datetime(2025, 11, 14, tzinfo=UTC)


def change(version: int, status: BatchStatus, seconds: float) -> BatchProgress:
    return BatchProgress(
        version=version,
        status=status,
        total_files=2,
        processed_files=0,
        failed_files=0,
        at=START + timedelta(seconds=seconds),
    )


def test_stages_are_timed_from_their_first_change_to_the_next() -> None:
    """V-10: all states of the batch in order; the last one lasts until now."""
    changes = [
        change(1, BatchStatus.PENDING, 0),
        change(2, BatchStatus.PENDING, 1),
        change(3, BatchStatus.UPLOADED, 4),
        change(4, BatchStatus.SCATTERING, 4.5),
    ]
    assert stage_seconds(changes, START + timedelta(seconds=6)) == {
        "pending": 4.0,
        "uploaded": 0.5,
        "scattering": 1.5,
    }


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ('{"errorMessage": "no luck", "stackTrace": []}', "no luck"),
        ("plain words", "plain words"),
        ('{"other": 1}', '{"other": 1}'),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_causes_are_made_readable(text: str, readable: str) -> None:
    """Errors: the owner of a batch reads the message without the JSON around it."""
    assert cause({"Error": "E", "Cause": text}) == readable
    assert cause({"Error": "E"}) == ""
