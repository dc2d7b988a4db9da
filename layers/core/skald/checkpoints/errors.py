"""Errors of checkpoints."""

from skald.errors import Busy


class ThreadBusy(Busy):
    """Another writer has the thread, or has taken it over; it may be free later."""


class NeedsManualIntervention(Exception):
    """A checkpoint could not be saved, so the thread waits for a person (G-02)."""


class CorruptCheckpoint(Exception):
    """What is stored is not what was saved."""


class NotSerializable(TypeError):
    """A state holds a type that is neither plain data nor on the allowlist."""
