"""The envelope every event and command travels in (W-05)."""

from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

MAX_BYTES = 200 * 1024
"""Refused above this, so that no queue or state machine (256 KiB) ever refuses it later."""


# Telemetry brings Powertools and its logger along: what only names an event does without them.
def _current_trace_id() -> str:
    from skald.telemetry import current_trace_id

    return current_trace_id()


def _current_span_id() -> str | None:
    from skald.telemetry import current_span_id

    return current_span_id()


class Envelope(BaseModel):
    """What happened to what, for whom, and because of what.

    Events are past tense and dotted (`batch.uploaded`), commands verb first. Those of one business
    process share a `correlation_id`; without one an event begins a chain of its own.
    """

    model_config = ConfigDict(frozen=True)

    event_id: UUID
    event_type: str = Field(pattern=r"^[a-z_]+(\.[a-z_]+)+$", max_length=100)
    tenant_id: UUID
    actor_id: str = "system"
    target_id: str = Field(min_length=1, max_length=200)
    target_type: str = Field(min_length=1, max_length=100)
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    version: int = Field(default=1, ge=1)
    payload: dict[str, Any] = Field(default_factory=dict)
    correlation_id: str | None = None
    causation_id: UUID | None = None
    trace_id: str = Field(default_factory=_current_trace_id)
    parent_span_id: str | None = Field(default_factory=_current_span_id)

    @property
    def chain(self) -> str:
        """What it shares with all events of its business process."""
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
    """Return the same UUID for the same parts: ids of retried work are derived, never drawn."""
    digest = _NAMESPACE.copy()
    digest.update("\x1f".join(map(str, parts)).encode())
    return UUID(bytes=digest.digest()[:16], version=5)


# What `uuid5` hashes anew each time; this took a fifth off an id's time.
_NAMESPACE = sha1(UUID("6f1c2a1e-6f0b-5c9a-9d5c-5b8b3f4d2a10").bytes, usedforsecurity=False)
