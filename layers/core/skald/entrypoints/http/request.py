"""What a route can ask for: its caller, a transaction of the caller's tenant, list parameters."""

from contextlib import ExitStack
from contextvars import ContextVar
from typing import Annotated

from aws_lambda_powertools.event_handler.depends import Depends
from aws_lambda_powertools.event_handler.openapi.params import Query

from skald.access.keys import Principal
from skald.listing import ListQuery
from skald.postgres import Transaction, database


class Request:
    """One authenticated request: its caller, and the transaction that ends with its `stack`."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.stack = ExitStack()
        self.transaction: Transaction | None = None


current: ContextVar[Request] = ContextVar("request")
"""The request that is being answered."""


def caller() -> Principal:
    """Return who sent the current request."""
    return current.get().principal


def transaction() -> Transaction:
    """Return the transaction of the current request; the first call opens it."""
    request = current.get()
    if request.transaction is None:
        request.transaction = request.stack.enter_context(
            database().transaction(request.principal.tenant_id)
        )
    return request.transaction


Caller = Annotated[Principal, Depends(caller)]
"""The authenticated caller of a route."""

Tx = Annotated[Transaction, Depends(transaction)]
"""A transaction of the caller's tenant: commits when the route returns, else rolls back."""

Listed = Annotated[ListQuery, Query()]
"""The list parameters of a route."""
