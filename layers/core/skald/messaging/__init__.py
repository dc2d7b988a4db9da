"""Messages: they leave with the transaction that caused them, and take effect exactly once."""

from skald.messaging.envelope import Envelope

__all__ = ["Envelope"]
