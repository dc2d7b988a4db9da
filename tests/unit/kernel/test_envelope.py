"""W-05: the envelope is validated, and repeated work derives the same ids."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skald.messaging.envelope import Envelope, derived_id
from skald.telemetry import trace

GIVEN: dict[str, Any] = {
    "event_id": uuid4(),
    "event_type": "batch.uploaded",
    "tenant_id": uuid4(),
    "target_id": "b1",
    "target_type": "batch",
}


def test_an_envelope_fills_in_what_it_knows() -> None:
    """W-05: time, version, actor and the trace of the work that created it."""
    before = datetime.now(UTC)
    with trace("a" * 32):
        envelope = Envelope(**GIVEN)
    assert envelope.trace_id == "a" * 32
    assert (envelope.version, envelope.actor_id, envelope.payload) == (1, "system", {})
    assert before <= envelope.timestamp <= datetime.now(UTC)


def test_an_envelope_survives_its_way_as_json() -> None:
    """W-05: the received envelope is equal to the one that was sent."""
    envelope = Envelope(**GIVEN, causation_id=uuid4(), payload={"a": [1, "ä", None]})
    assert Envelope.model_validate_json(envelope.model_dump_json()) == envelope


@pytest.mark.parametrize(
    "change",
    [
        {"event_type": "uploaded"},
        {"event_type": "Batch.Uploaded"},
        {"event_type": "batch.uploaded\n"},
        {"event_type": "batch..uploaded"},
        {"event_type": ""},
        {"event_type": "a." + "b" * 100},
        {"event_id": "1"},
        {"tenant_id": None},
        {"target_id": ""},
        {"target_id": "x" * 201},
        {"target_type": ""},
        {"version": 0},
        {"timestamp": "yesterday"},
        {"payload": []},
        {"causation_id": "x"},
    ],
    ids=str,
)
def test_a_malformed_envelope_is_refused(change: dict[str, Any]) -> None:
    """W-05: an envelope that does not fit its schema is neither sent nor accepted."""
    with pytest.raises(ValidationError):
        Envelope(**(GIVEN | change))


@pytest.mark.parametrize("missing", GIVEN)
def test_an_incomplete_envelope_is_refused(missing: str) -> None:
    """W-05: tenant, type and target are required."""
    with pytest.raises(ValidationError, match=missing):
        Envelope(**{name: value for name, value in GIVEN.items() if name != missing})


def test_an_envelope_does_not_change() -> None:
    """W-05: an event describes the past."""
    with pytest.raises(ValidationError, match="frozen"):
        Envelope(**GIVEN).target_id = "b2"  # type: ignore[misc]


def test_what_an_event_causes_names_its_cause() -> None:
    """W-08: a chain of events can be followed; the same cause gives the same id."""
    first = Envelope(**GIVEN, correlation_id="c", trace_id="a" * 32)
    followed = first.caused("batch.parsed", {"n": 1})
    assert followed.causation_id == first.event_id
    assert (followed.correlation_id, followed.trace_id) == ("c", "a" * 32)
    assert followed.tenant_id == first.tenant_id
    assert followed.payload == {"n": 1}
    assert followed.event_id == first.caused("batch.parsed", {"n": 2}).event_id
    assert followed.event_id != first.caused("batch.failed", {}).event_id


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=20), min_size=1
    )
)
def test_derived_ids_are_the_same_for_the_same_parts(parts: list[str]) -> None:
    """W-01: ids of retried work are derived from its parts, never random."""
    assert derived_id(*parts) == derived_id(*parts)
    assert derived_id(*parts).version == 5
    assert derived_id(*parts, "more") != derived_id(*parts)


def test_derived_ids_do_not_depend_on_where_parts_meet() -> None:
    """W-01: ("ab", "c") is not ("a", "bc")."""
    assert derived_id("ab", "c") != derived_id("a", "bc")
    assert derived_id("a", UUID(int=1)) == derived_id("a", str(UUID(int=1)))


def test_derived_ids_are_stable_across_releases() -> None:
    """Q-09: a new release finds the records of an old one."""
    assert derived_id("file", "b", "a.log") == UUID("17fe8a98-616f-5186-a692-5a77b8c74fb6")
