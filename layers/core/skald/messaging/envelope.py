"""The envelope of every event and command (W-05)."""

from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

MAX_BYTES = 200 * 1024
"""A larger envelope is refused, so no queue or state machine (256 KiB) refuses it later."""


# Telemetry imports Powertools and its logger. Code that only names an event needs neither.
def _current_trace_id() -> str:
    from skald.telemetry import current_trace_id

    return current_trace_id()


def _current_span_id() -> str | None:
    from skald.telemetry import current_span_id

    return current_span_id()


class Envelope(BaseModel, defer_build=True):
    """An event or a command, with its target, its tenant and its cause.

    Events of one business process share a `correlation_id`; an event without one starts a chain.
    """

    model_config = ConfigDict(frozen=True)

    event_id: UUID = Field(description="The id of the event.")
    event_type: str = Field(
        pattern=r"^[a-z_]+(\.[a-z_]+)+$",
        max_length=100,
        description="An event in the past tense (`batch.uploaded`), or a command (`file.parse`).",
    )
    tenant_id: UUID = Field(description="The tenant it belongs to.")
    actor_id: str = Field(default="system", description="Who caused it: an API key, or `system`.")
    target_id: str = Field(
        min_length=1, max_length=200, description="The id of the thing it is about."
    )
    target_type: str = Field(
        min_length=1, max_length=100, description="What kind of thing it is about."
    )
    timestamp: datetime = Field(
        default_factory=lambda: datetime.now(UTC), description="When it happened."
    )
    version: int = Field(default=1, ge=1, description="The version of the payload's shape.")
    payload: dict[str, Any] = Field(
        default_factory=dict, description="What happened, in the shape of its type."
    )
    correlation_id: str | None = Field(
        default=None, description="The business process it belongs to."
    )
    causation_id: UUID | None = Field(default=None, description="The event that caused it.")
    trace_id: str = Field(
        default_factory=_current_trace_id, description="The trace it was published in."
    )
    parent_span_id: str | None = Field(
        default_factory=_current_span_id, description="The span that published it."
    )

    @property
    def chain(self) -> str:
        """The correlation id of its business process."""
        return self.correlation_id or str(self.event_id)

    def caused(self, event_type: str, payload: dict[str, Any]) -> Self:
        """Return a follow-up about the same target, in the chain of this event.

        The same cause and type give the same id.
        """
        return self.model_copy(
            update={
                "event_id": uuid5(self.event_id, event_type),
                "event_type": event_type,
                "timestamp": datetime.now(UTC),
                "payload": payload,
                "correlation_id": self.chain,
                "causation_id": self.event_id,
                "parent_span_id": _current_span_id(),
            }
        )


def derived_id(*parts: object) -> UUID:
    """Return the same UUID for the same parts: ids of retried work are derived, never random."""
    digest = _NAMESPACE.copy()
    digest.update("\x1f".join(map(str, parts)).encode())
    return UUID(bytes=digest.digest()[:16], version=5)


# `uuid5` hashes the namespace for every id; hashing it once saves a fifth of the time.
_NAMESPACE = sha1(UUID("6f1c2a1e-6f0b-5c9a-9d5c-5b8b3f4d2a10").bytes, usedforsecurity=False)
