"""What a route can ask for: its caller, a transaction of the caller's tenant, list parameters."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.depends import Depends
from aws_lambda_powertools.event_handler.openapi.params import Query

from skald.access.keys import Principal
from skald.idempotency import Operation, Outcome
from skald.idempotency.operation import JsonResult
from skald.listing import ListQuery
from skald.postgres import Transaction, database


class Request:
    """One authenticated request: its caller, and the transaction that ends with its `stack`."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.stack = ExitStack()
        self.transaction: Transaction | None = None

    def begin[T: Transaction](self, opened: AbstractContextManager[T]) -> T:
        """Open the transaction of this request."""
        self.transaction = begun = self.stack.enter_context(opened)
        return begun


current: ContextVar[Request] = ContextVar("request")
"""The request that is being answered."""


def caller() -> Principal:
    """Return who sent the current request."""
    return current.get().principal


def transaction() -> Transaction:
    """Return the transaction of the current request; the first call opens it."""
    request = current.get()
    return request.transaction or request.begin(database().transaction(caller().tenant_id))


def run(operation: Operation, work: Callable[[], JsonResult], **of_request: Any) -> Outcome:
    """Run an idempotent operation in the transaction of the current request."""
    return operation.run(transaction(), work, **of_request)


def run_rows_first(
    operation: Operation, work: Callable[[], JsonResult], **of_request: Any
) -> Outcome:
    """Do the same in a transaction whose condition is the operation's claim."""
    opened = database().conditional(caller().tenant_id)
    return operation.run_rows_first(current.get().begin(opened), work, **of_request)


Caller = Annotated[Principal, Depends(caller)]
"""The authenticated caller of a route."""

Tx = Annotated[Transaction, Depends(transaction)]
"""A transaction of the caller's tenant: commits when the route returns, else rolls back."""

Listed = Annotated[ListQuery, Query()]
"""The list parameters of a route."""
