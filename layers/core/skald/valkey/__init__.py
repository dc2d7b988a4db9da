"""Redis or Valkey: client, cache, barrier, lock, semaphore, rate limit. All of it may vanish."""

from skald.valkey.client import BestEffort, connect, valkey

__all__ = ["BestEffort", "connect", "valkey"]
