"""Work that is asked for twice is done once, and answered alike (C-08, W-01)."""

from skald.idempotency.errors import InUse, KeyReused, LeaseLost
from skald.idempotency.operation import Answer, Operation, invalidate

__all__ = ["Answer", "InUse", "KeyReused", "LeaseLost", "Operation", "invalidate"]
