"""Work that is asked for twice is done once, and answered alike (C-08, W-01)."""

from skald.idempotency.errors import InUse, KeyReused, LeaseLost
from skald.idempotency.operation import Operation, Outcome, invalidate

__all__ = ["InUse", "KeyReused", "LeaseLost", "Operation", "Outcome", "invalidate"]
