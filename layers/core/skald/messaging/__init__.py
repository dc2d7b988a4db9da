"""Messages: each is stored with the transaction that causes it, and takes effect exactly once."""

from skald.messaging.envelope import Envelope

__all__ = ["Envelope"]
