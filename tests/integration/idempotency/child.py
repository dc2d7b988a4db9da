"""A function in its own process, which a test kills or stops in the middle.

`request EVENT` sends a request to the orders API; `lease TENANT KEY SECONDS` works under a lease.
Both print where they are, wait for a line, and print an outcome.
"""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.conftest import Context
from tests.integration.idempotency import orders

from skald.idempotency import LeaseLost, Operation
from skald.postgres import database


def request(event: str) -> str:
    orders.Moment.reached = staticmethod(lambda: orders.say_and_wait("before commit"))
    answer = orders.api.handler(json.loads(event), Context())
    return json.dumps({"status": answer["statusCode"], "body": answer["body"]})


def lease(tenant: str, key: str, seconds: str) -> str:
    def work() -> dict[str, Any]:
        orders.say_and_wait("at work")
        return {"by": "child"}

    try:
        answer = Operation("render").run_outside(
            database(),
            UUID(tenant),
            work,
            key=key,
            payload={},
            lease=timedelta(seconds=float(seconds)),
        )
    except LeaseLost:
        return "lease lost"
    return json.dumps(answer.result)


if __name__ == "__main__":
    commands: dict[str, Callable[..., str]] = {"request": request, "lease": lease}
    print(commands[sys.argv[1]](*sys.argv[2:]), flush=True)
