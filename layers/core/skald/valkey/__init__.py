"""Redis or Valkey: client, cache, barrier, lock, semaphore, rate limit. It may vanish any time."""

from skald.valkey.client import BestEffort, connect, valkey

__all__ = ["BestEffort", "connect", "valkey"]
