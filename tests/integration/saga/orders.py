"""A saga for the tests: three steps that write rows, and marks outside PostgreSQL.

    python -m tests.integration.saga.orders TENANT SAGA_ID FOLDER STOP_AT

runs it in its own process until STOP_AT. There it prints `stopped` and waits for its kill.
"""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from skald.messaging import inbox
from skald.messaging.envelope import Envelope, derived_id
from skald.postgres import Database, Transaction
from skald.saga.coordinator import Saga, Step, run

NAMES = ("reserve", "charge", "ship")


class Order(BaseModel):
    """The command; `folder` stands for an external system: it has a file per mark."""

    folder: str


@dataclass
class World:
    """Hooks by name, such as `work:charge` or `undo:ship`, that fail or stop a saga."""

    hooks: dict[str, Callable[[], None]] = field(default_factory=dict)
    happened: list[str] = field(default_factory=list)

    def at(self, place: str) -> None:
        self.happened.append(place)
        self.hooks.get(place, lambda: None)()

    def saga(self, *, pivot: str | None = None, plain: tuple[str, ...] = ()) -> Saga[Order]:
        """Return the saga. The steps named in `plain` only change rows."""
        steps = [self._step(name, name == pivot, name not in plain) for name in NAMES]
        return Saga("order", Order, steps)

    def _step(self, name: str, is_pivot: bool, has_work: bool) -> Step[Order]:
        def effect(tx: Transaction, _: Order) -> dict[str, str]:
            # One row each time the effect happens, so a second effect is visible.
            inbox.accept(tx, _mark(tx.tenant_id, name, effects(tx, name)), f"effect:{name}")
            self.at(f"effect:{name}")
            return {"step": name}

        def compensation(tx: Transaction, _: Order) -> None:
            inbox.accept(tx, _mark(tx.tenant_id, name, undone(tx, name)), f"undone:{name}")
            self.at(f"compensation:{name}")

        def work(order: Order) -> None:
            (Path(order.folder) / name).touch()
            self.at(f"work:{name}")

        def undo(order: Order) -> None:
            self.at(f"undo:{name}")
            (Path(order.folder) / name).unlink(missing_ok=True)

        if not has_work:
            return Step(name, effect, compensation, is_pivot=is_pivot)
        return Step(name, effect, compensation, work, undo, is_pivot=is_pivot)


def effects(tx: Transaction, name: str) -> int:
    return _count(tx, f"effect:{name}")


def undone(tx: Transaction, name: str) -> int:
    return _count(tx, f"undone:{name}")


def _count(tx: Transaction, consumer: str) -> int:
    return int(tx.value("select count(*) from skald.inbox where consumer = %s", (consumer,)))


def _mark(tenant: UUID, name: str, number: int) -> Envelope:
    return Envelope(
        event_id=derived_id("mark", name, number),
        event_type="mark.left",
        tenant_id=tenant,
        target_id=name,
        target_type="mark",
    )


def _stop() -> None:
    print("stopped", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    tenant, saga_id, folder, stop_at = sys.argv[1:]
    run(
        Database(os.environ["POSTGRES_DSN"]),
        World({stop_at: _stop}).saga(),
        UUID(tenant),
        saga_id,
        Order(folder=folder),
    )
