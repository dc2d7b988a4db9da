"""Existing things for the tests that send requests to every route: one module per context.

`existing(world)` of a context's module returns the ids for its path parameters: a dictionary for
each set of things, such as a batch in one of its states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import DictRow

from skald.postgres import Database

type Ids = dict[str, Any]
type Existing = Callable[[str], list[Ids]]
"""Returns the ids of a context's things."""


@dataclass(frozen=True)
class World:
    """The tenant of the things, and the clients that create them."""

    tenant: UUID
    api_key: str
    database: Database
    admin: Connection[DictRow]


def existing(context: str, world: World) -> list[Ids]:
    """Create things of a context and return their ids."""
    module = import_module(f"tests.integration.existing.{context}")
    ids: list[Ids] = module.existing(world)
    return ids
