"""Work that is asked for twice is done once, and answered alike (C-08, W-01)."""

from skald.idempotency.operation import Answer, InUse, KeyReused, Operation, invalidate

__all__ = ["Answer", "InUse", "KeyReused", "Operation", "invalidate"]
