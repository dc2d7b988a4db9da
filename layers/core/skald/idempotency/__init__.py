"""Idempotency: a repeated request gets the first answer, and no second effect (C-08, W-01)."""

from skald.idempotency.errors import InUse, KeyReused, LeaseLost
from skald.idempotency.operation import Operation, Outcome, invalidate

__all__ = ["InUse", "KeyReused", "LeaseLost", "Operation", "Outcome", "invalidate"]
