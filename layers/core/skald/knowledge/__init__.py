"""The knowledge base: entries in versions, their embeddings, and a search over both (V-09)."""

from skald.knowledge.entries import Loaded, NewEntry, Source, Wanted
from skald.knowledge.ranking import search
from skald.knowledge.spaces import (
    Space,
    embed_missing,
    spaces_of,
    start_reembedding,
    waiting,
)
from skald.knowledge.store import SHARED, add, load, retire

__all__ = [
    "SHARED",
    "Loaded",
    "NewEntry",
    "Source",
    "Space",
    "Wanted",
    "add",
    "embed_missing",
    "load",
    "retire",
    "search",
    "spaces_of",
    "start_reembedding",
    "waiting",
]
