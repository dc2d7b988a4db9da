"""Things that exist, for the tests that ask every route about them: a module for each context.

`existing(world)` of a context's module returns the ids that its path parameters take: a dictionary
for each set of things, such as a batch in one of its states.
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
    """Whose things they are, and the ways to make them."""

    tenant: UUID
    api_key: str
    database: Database
    admin: Connection[DictRow]


def existing(context: str, world: World) -> list[Ids]:
    """Make things of a context and return their ids."""
    module = import_module(f"tests.integration.existing.{context}")
    ids: list[Ids] = module.existing(world)
    return ids
