"""Hybrid search: filters first, then closeness of meaning and of words, fused by rank (V-09)."""

import json
from collections.abc import Mapping

from pydantic import BaseModel

from skald.errors import Temporary
from skald.knowledge.embedders import Local, embedder_named
from skald.knowledge.entries import Source, Wanted
from skald.knowledge.spaces import literal
from skald.models.interface import ModelRefused
from skald.state.postgres import Transaction
from skald.telemetry import Kind, logger, span

DEPTH = 20
"""Candidates of either ranking that go into the fusion."""
MEANING, WORDING = 1.0, 2.0
"""Weights of the two ranks: chosen among 1, 1.5, 2 and 3 on one half of the XQuAD questions."""
QUESTION_SECONDS = 5.0
"""How long an embedder may think about a question that somebody waits with."""

# As long as the vector of an active space is missing, nothing is searched.
_SEARCH = """
    with missing as materialized (
        select coalesce(array_agg(distinct embedder), '{}') as embedders
        from skald.knowledge_spaces
        where tenant_id in (%(tenant)s, skald.shared_tenant()) and is_active
          and not %(vectors)s::jsonb ? embedder
    )
    select embedders as missing, (
        select coalesce(json_agg(json_build_object(
            'entry_id', entry_id, 'version', version, 'kind', kind, 'key', key, 'title', title,
            'text', text, 'error_codes', error_codes, 'source', source, 'score', score,
            'found_by', array_remove(array[case when by_meaning is not null then 'meaning' end,
                                           case when by_words is not null then 'words' end], null),
            'is_shared', tenant_id = skald.shared_tenant()) order by score desc, entry_id), '[]')
        from (select *
              from skald.search_knowledge(%(vectors)s::jsonb, %(text)s, %(codes)s::text[],
                  %(platform)s, %(firmware)s, %(kinds)s::text[], %(depth)s, %(meaning)s,
                  %(wording)s)
              where embedders = '{}'
              order by score desc, entry_id
              limit %(limit)s) as found
        join skald.knowledge_entries using (tenant_id, entry_id)
        where valid_until is null) as sources
    from missing
"""


class _Answer(BaseModel):
    """What was found; nothing while vectors of these embedders are missing."""

    missing: list[str]
    sources: list[Source]


def search(
    transaction: Transaction,
    wanted: Wanted,
    *,
    meaning: float = MEANING,
    wording: float = WORDING,
) -> list[Source]:
    """Return the entries closest to what is wanted, best first: the tenant's and shared ones.

    `meaning` and `wording` weigh the two rankings. It takes one round trip; two where a space has a
    remote embedder, which is asked only once it is known to be needed.
    """
    parameters = {
        "tenant": transaction.tenant_id,
        "text": wanted.text,
        "codes": list(wanted.error_codes),
        "platform": wanted.platform,
        "firmware": wanted.firmware,
        "kinds": list(wanted.kinds),
        "depth": max(DEPTH, wanted.limit),
        "meaning": meaning,
        "wording": wording,
        "limit": wanted.limit,
    }

    def answer(vectors: Mapping[str, str | None]) -> _Answer:
        (row,) = transaction.all(_Answer, _SEARCH, parameters | {"vectors": json.dumps(vectors)})
        return row

    with span(Kind.DATABASE, "knowledge search"):
        vectors = {Local.name: _vector(Local.name, wanted.text)}
        found = answer(vectors)
        if found.missing:
            found = answer(vectors | {name: _vector(name, wanted.text) for name in found.missing})
        return found.sources


def _vector(embedder: str, text: str) -> str | None:
    """Return the text as an embedder's spaces see it.

    None where it does not answer now: words find entries all the same.
    """
    try:
        return literal(embedder_named(embedder).embed([text], QUESTION_SECONDS)[0])
    except (Temporary, ModelRefused):
        logger.warning("not searched by meaning", extra={"embedder": embedder}, exc_info=True)
        return None
