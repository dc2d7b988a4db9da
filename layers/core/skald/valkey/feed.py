"""A feed: the latest events of some work, kept for a short time, for people who watch it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from skald.valkey.client import BestEffort

if TYPE_CHECKING:
    import redis
    from redis.typing import EncodableT, FieldT

LENGTH = 2_000
KEPT_SECONDS = 3_600
PAGE = 250
BEGINNING = "0-0"
ITEM_ID = r"\d{1,15}-\d{1,9}"
"""The form of an item's id: its time in milliseconds, and a number within it."""


@dataclass(frozen=True)
class Item:
    """An event of the feed. Ids grow."""

    id: str
    name: str
    data: dict[str, Any]


class Feed:
    """A Redis stream under one key. Without Redis nothing is stored and nothing is found.

    A feed shows work and does not record it. PostgreSQL has the record.
    """

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._redis = BestEffort(client, "feed")
        self._key = key

    def append(self, items: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        """Append items of name and data. Returns the id of the last one, None without Redis."""
        return self._redis.attempt(lambda client: self._append(client, items), None)

    def since(self, item_id: str) -> list[Item]:
        """Return the kept items after this one, at most `PAGE`."""
        return self._redis.attempt(lambda client: self._read(client, item_id), [])

    def _append(self, client: redis.Redis, items: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        pipeline = client.pipeline(transaction=False)
        for name, data in items:
            # JSON in ASCII: the text of a model may hold halves of characters, which Redis refuses.
            fields: dict[FieldT, EncodableT] = {"name": name, "data": json.dumps(data)}
            pipeline.xadd(self._key, fields, maxlen=LENGTH, approximate=True)
        pipeline.expire(self._key, KEPT_SECONDS)
        *ids, _ = pipeline.execute()
        return str(ids[-1])

    def _read(self, client: redis.Redis, item_id: str) -> list[Item]:
        found = client.xrange(self._key, min=f"({item_id}", count=PAGE)
        # The client decodes its answers, which its types do not say.
        items = cast("list[tuple[str, dict[str, str]]]", found)
        return [Item(key, held["name"], json.loads(held["data"])) for key, held in items]
