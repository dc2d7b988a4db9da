"""Hybrid search: filters, then ranks by meaning and by words, fused into one (V-09)."""

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import LiteralString

from pydantic import TypeAdapter

from skald.errors import Temporary
from skald.knowledge.embedders import Local, Vector, embedder_named
from skald.knowledge.entries import Source, Wanted
from skald.models.interface import ModelRefused
from skald.postgres import Call
from skald.telemetry import Kind, logger, span

DEPTH = 20
"""Candidates of each ranking that the fusion reads."""
MEANING, WORDING = 1.0, 2.0
"""Weights of the two ranks, chosen among 1, 1.5, 2 and 3 on one half of the XQuAD questions."""
QUESTION_SECONDS = 5.0
"""Seconds an embedder may take for a question while a client waits."""
QUESTIONS_KEPT = 16
"""Questions whose vectors are kept. A diagnosis asks each question for one kind after the other."""

_SEARCH: LiteralString = """
    select missing, sources
    from skald.search_knowledge($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
_SOURCES = TypeAdapter(list[Source])


def search(
    call: Call, wanted: Wanted, *, meaning: float = MEANING, wording: float = WORDING
) -> list[Source]:
    """Return the closest entries, the tenant's and shared ones, best first.

    `meaning` and `wording` weigh the two rankings. A search takes one round trip, or two when a
    space has a remote embedder, which is called only when it is needed.
    """

    def answer(vectors: Mapping[str, bytes | None]) -> tuple[list[str], str]:
        vector, other_vector = [*vectors.values(), None][:2]
        ((missing, sources),) = call(
            _SEARCH,
            list(vectors),
            vector,
            other_vector,
            wanted.text,
            list(wanted.error_codes),
            wanted.platform,
            wanted.firmware,
            list(wanted.kinds),
            max(DEPTH, wanted.limit),
            wanted.limit,
            meaning,
            wording,
        )
        return missing, sources

    with span(Kind.DATABASE, "knowledge search"):
        vectors = {Local.name: _vector(Local.name, wanted.text)}
        missing, sources = answer(vectors)
        if missing:
            _, sources = answer({name: _vector(name, wanted.text) for name in missing} | vectors)
        return _SOURCES.validate_json(sources)


def _vector(embedder: str, text: str) -> bytes | None:
    """Return the vector of a text in the spaces of an embedder.

    None when the embedder does not answer: words still find entries.
    """
    try:
        return _embedded(embedder, text)
    except (Temporary, ModelRefused):
        logger.warning("not searched by meaning", extra={"embedder": embedder}, exc_info=True)
        return None


@lru_cache(QUESTIONS_KEPT)
def _embedded(embedder: str, text: str) -> bytes:
    return _packed(embedder_named(embedder).embed([text], QUESTION_SECONDS)[0])


def _packed(vector: Vector) -> bytes:
    """Return a vector in pgvector's binary form, in a tenth of the time that text takes."""
    return struct.pack(f"!HH{len(vector)}e", len(vector), 0, *vector)
