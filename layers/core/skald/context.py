"""Descriptions of contexts: `context.py` of a context holds one `Context` (X-09).

A description names code as `module:name` and imports none of it, so reading all descriptions costs
a cold start almost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from skald.entrypoints.http import Api
    from skald.entrypoints.step import StepHandler
    from skald.postgres import Transaction
    from skald.retention import Retention

type Reference = str
"""The name of code, such as `batches.steps:compensate`; the code is imported on use."""


class Ending(Protocol):
    """A function that ends the entity of a saga, in the transaction that ends the saga."""

    def __call__(self, tx: Transaction, saga_id: str, note: str, /) -> None: ...


@dataclass(frozen=True)
class SagaKind:
    """A kind of saga: how to compensate a dead one, and how to end its entity.

    `recovery` is the step that the state machine runs when another step fails; the reconciler runs
    it for an execution that died. `ending` takes the operator's note.
    """

    recovery: Reference
    ending: Reference

    def compensate(self) -> StepHandler:
        """Return the step that compensates."""
        return cast("StepHandler", resolve_name(self.recovery))

    def end(self) -> Ending:
        """Return the function that ends the saga's entity."""
        return cast("Ending", resolve_name(self.ending))


@dataclass(frozen=True)
class Context:
    """The description of a context for the rest of the system.

    `apis` are its APIs by name; if two APIs have different models of one name, one model gets the
    name of its API as a prefix. `sagas` are its kinds of saga, named like the files of their state
    machines. `routes` maps the type of an event or command to the queue of the context that takes
    it; `*` is every other type. `retention` names `skald.retention.Retention`s, one for each table
    of the context whose old rows are deleted. The keys of its objects in S3 begin with its `name`
    (`skald.storage.names`).
    """

    name: str
    apis: Mapping[str, Reference] = field(default_factory=dict)
    sagas: Mapping[str, SagaKind] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)
    retention: Reference | None = None


class Contexts(tuple[Context, ...]):
    """All contexts, and the union of their descriptions."""

    __slots__ = ()

    @property
    def apis(self) -> dict[str, Api]:
        """Every API by its name; imports them. Raises `ValueError` like `sagas`."""
        references = _union([context.apis for context in self])
        return {name: resolve_name(reference) for name, reference in references.items()}

    @property
    def sagas(self) -> dict[str, SagaKind]:
        """Every kind of saga by its name; raises `ValueError` if two contexts use one name."""
        return _union([context.sagas for context in self])

    @property
    def routes(self) -> dict[str, str]:
        """The queue of every event type, as `context-queue`; raises `ValueError` like `sagas`.

        In a stack, the name of the queue is the stack's name followed by this name.
        """
        return _union(
            [
                {event: f"{context.name}-{queue}" for event, queue in context.routes.items()}
                for context in self
            ]
        )

    @property
    def retention(self) -> list[Retention]:
        """The retentions of all contexts; imports them."""
        references = [context.retention for context in self if context.retention]
        return [row for reference in references for row in resolve_name(reference)]


def discover(folder: Path) -> Contexts:
    """Return the contexts in a folder, by name: the packages with a `context.py`."""
    names = sorted(path.parent.name for path in folder.glob("*/context.py"))
    return Contexts(import_module(f"{name}.context").CONTEXT for name in names)


def _union[T](parts: list[Mapping[str, T]]) -> dict[str, T]:
    counts = Counter(name for part in parts for name in part)
    if claimed := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"more than one context claims {', '.join(claimed)}")
    return {name: value for part in parts for name, value in part.items()}
