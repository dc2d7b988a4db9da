"""Why a call under an idempotency key got no answer."""

from skald.errors import Conflict, InvalidInput, Temporary


class KeyReused(InvalidInput):
    code = "idempotency_key_reused"
    title = "This idempotency key belongs to another request"


class InUse(Conflict):
    code = "idempotency_key_in_use"
    title = "A request with this idempotency key is still running"


class LeaseLost(Temporary):
    """Another owner took the key over; a retry gets that owner's answer."""
