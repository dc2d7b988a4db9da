"""A small API of idempotent routes whose effect is one outbox event, and the work of a child."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel

from skald.entrypoints.http import Api, Tx
from skald.errors import Conflict
from skald.idempotency import Operation
from skald.messaging import Envelope, outbox
from skald.messaging.envelope import derived_id
from skald.postgres import ConditionalTransaction, Database, Transaction

OUT_OF_STOCK = "unicorn"
BUG = "bug"
ORDER = Operation("order")

api = Api()


class NewOrder(BaseModel):
    """The body of an order."""

    article: str
    number: int = 1


class Order(BaseModel):
    """The response to an order. `number` counts the tenant's orders, so responses differ."""

    article: str
    number: int


class Way:
    """How the effect under a key is claimed. Each way has its route."""

    rows_first = False
    paths: ClassVar[dict[bool, str]] = {False: "/orders", True: "/rows-first/orders"}

    @classmethod
    def open(cls, database: Database, tenant: UUID) -> AbstractContextManager[Transaction]:
        """Open the transaction in which `place_once` claims in this way."""
        return database.conditional(tenant) if cls.rows_first else database.transaction(tenant)


class Moment:
    """The moment between the effect of a route and its commit."""

    reached: Callable[[], None] = staticmethod(lambda: None)


def order(new: NewOrder, tx: Tx) -> Order:
    """Place an order."""
    placed = place(tx, new.article)
    if new.article == OUT_OF_STOCK:
        raise Conflict("out of stock")
    if new.article == BUG:
        raise RuntimeError("a bug")
    Moment.reached()
    return placed


for rows_first, path in Way.paths.items():
    api.route(
        "POST", path, status=201, problems=(409,), idempotent="header", rows_first=rows_first
    )(order)


@api.route("POST", "/returned", idempotent="header", rows_first=True)
def refuse(new: NewOrder, tx: Tx) -> Response[str]:
    """Place an order and return a refusal instead of raising it."""
    place(tx, new.article)
    return Response(status_code=409, content_type="text/plain", body="no")


@api.route("POST", "/automatic/<shop>", status=202, idempotent="automatic")
def order_again(shop: str, new: NewOrder, tx: Tx) -> Order:
    """Place an order without a key from the client: an equal order is the same request."""
    return place(tx, f"{shop}: {new.article}")


def place(tx: Transaction, article: str) -> Order:
    """Put an event into the outbox."""
    number = orders(tx) + 1
    event = Envelope(
        event_id=derived_id(tx.tenant_id, number),
        event_type="order.placed",
        tenant_id=tx.tenant_id,
        target_id=str(number),
        target_type="order",
        payload={"article": article},
    )
    outbox.publish(tx, event)
    return Order(article=article, number=number)


def place_once(tx: Transaction, article: str = "lamp", key: str = "k", work: Any = None) -> Any:
    """Place an order under a key; returns its number and whether it is a replay."""

    def effect() -> dict[str, Any]:
        return place(tx, article).model_dump()

    run = partial(ORDER.run, tx)
    if isinstance(tx, ConditionalTransaction):
        run = partial(ORDER.run_rows_first, tx)
    answer = run(work or effect, key=key, payload={"article": article})
    return answer.result.get("number"), answer.replayed


def place_alone(database: Database, tenant: UUID, article: str = "lamp", key: str = "k") -> Any:
    """Place an order under a key in its own transaction."""
    with Way.open(database, tenant) as tx:
        return place_once(tx, article, key)


def orders(tx: Transaction) -> int:
    return int(
        tx.value(
            "select count(*) from skald.outbox"
            " where tenant_id = %s and event_type = 'order.placed'",
            (tx.tenant_id,),
        )
    )


def say_and_wait(word: str) -> None:
    """Tell the parent process where we are, and continue when it sends a line."""
    print(word, flush=True)
    sys.stdin.readline()
