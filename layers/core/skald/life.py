"""The life cycle of an entity: its states, the legal moves, and how its row makes them (V-03).

A context declares the states in its domain and binds them to a table in its repository::

    LIFE = LifeCycle(BatchStatus, failed=BatchStatus.FAILED)
    _BATCHES = Lived(LIFE, table=("batches", "batches"), key="batch_id")

This module does no I/O by itself: a transaction is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from skald.postgres import Transaction

MAX_DETAIL = 2_000
"""Characters that are kept of the reason of a failure."""


class IllegalTransition(Exception):
    """An entity is not in the expected state: another writer was faster, or the entity ended."""


class LifeCycle[S: StrEnum]:
    """The states of an entity in order of their declaration, and one that means failure.

    An entity moves from a state to the next one, or fails. The last state and `failed` are final.
    """

    def __init__(self, states: type[S], *, failed: S) -> None:
        self.failed = failed
        self._order = [state for state in states if state is not failed]

    def is_final(self, state: S) -> bool:
        """Say whether no state follows this one."""
        return state is self.failed or state is self._order[-1]

    def may_become(self, state: S, target: S) -> bool:
        """Say whether an entity may go from `state` to `target`."""
        return state in self.before(target)

    def before(self, target: S) -> list[S]:
        """Return the states from which an entity may go to `target`."""
        if target is self.failed:
            return self._order[:-1]
        return self._order[: self._order.index(target)][-1:]


class Lived[S: StrEnum]:
    """The rows of a table that go through a life cycle, found by their key.

    The table has the columns `tenant_id`, `status`, `failure_code`, `failure_detail` and
    `completed_at`, which is set with a final state. SQL applies a change only from the states it
    expects. `columns` are written in the same statement.
    """

    def __init__(
        self, life: LifeCycle[S], *, table: tuple[LiteralString, LiteralString], key: LiteralString
    ) -> None:
        self._life = life
        self._states = type(life.failed)
        self._table = ".".join(table)
        self._key = key
        self._noun = key.removesuffix("_id")

    def state(self, tx: Transaction, key: object) -> S | None:
        """Return the state of an entity, None if no entity has this key."""
        return self._found(tx.value(self._select(), (tx.tenant_id, key)))

    def lock(self, tx: Transaction, key: object) -> S | None:
        """Return the state of an entity and lock its row until the transaction ends."""
        return self._found(tx.value(f"{self._select()} for no key update", (tx.tenant_id, key)))

    def hold(self, tx: Transaction, key: object, state: S) -> None:
        """Lock an entity that is in this state until the transaction ends.

        Raises `IllegalTransition` if it is in another state.
        """
        found = self.lock(tx, key)
        if found is not state:
            raise IllegalTransition(f"{self._noun} {key} is {found or 'gone'}, not {state}")

    def advance(self, tx: Transaction, key: object, target: S, **columns: object) -> bool:
        """Move an entity to the next state; False when it is not in the state before it."""
        return self._change(tx, key, target, self._life.before(target), columns)

    def enter(self, tx: Transaction, key: object, target: S) -> None:
        """Move an entity to the next state; a repeated step finds it in that state already.

        Raises `IllegalTransition` if it is in any other state.
        """
        if self.advance(tx, key, target):
            return
        found = self.state(tx, key)
        if found is not target:
            raise IllegalTransition(
                f"{self._noun} {key} is {found or 'gone'}, it cannot become {target}"
            )

    def keep(self, tx: Transaction, key: object, state: S, **columns: object) -> bool:
        """Change columns of an entity that stays in its state; False when it is in another."""
        return self._change(tx, key, state, [state], columns)

    def fail(self, tx: Transaction, key: object, code: str, detail: str) -> bool:
        """Fail an entity that has not ended, with a code and a reason; a final state stays."""
        failed = self._life.failed
        reason = {"failure_code": code, "failure_detail": detail[:MAX_DETAIL]}
        return self._change(tx, key, failed, self._life.before(failed), reason)

    def _change(
        self,
        tx: Transaction,
        key: object,
        target: S,
        expected: Sequence[S],
        columns: Mapping[str, object],
    ) -> bool:
        sets = ["status = %s", *(f"{name} = %s" for name in columns)]
        if self._life.is_final(target):
            sets.append("completed_at = clock_timestamp()")
        return tx.changed(
            f"update {self._table} set {', '.join(sets)}"  # noqa: S608 (names of the code's own)
            f" where tenant_id = %s and {self._key} = %s and status = any(%s)",
            (target, *columns.values(), tx.tenant_id, key, list(expected)),
        )

    def _select(self) -> LiteralString:
        return f"select status from {self._table} where tenant_id = %s and {self._key} = %s"  # noqa: S608 (as above)

    def _found(self, status: str | None) -> S | None:
        return None if status is None else self._states(status)
