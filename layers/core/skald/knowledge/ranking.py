"""Hybrid search: filters first, then closeness of meaning and of words, fused by rank (V-09)."""

import json

from skald.errors import Temporary
from skald.knowledge.embedders import embedder_named
from skald.knowledge.entries import Source, Wanted
from skald.knowledge.spaces import literal
from skald.models.interface import ModelRefused
from skald.state.postgres import Transaction
from skald.telemetry import Kind, logger, span

DEPTH = 50
"""Candidates of either ranking that go into the fusion."""
MEANING, WORDING = 1.0, 2.0
"""Weights of the two ranks: chosen among 1, 1.5, 2 and 3 on one half of the XQuAD questions."""
QUESTION_SECONDS = 5.0
"""How long an embedder may think about a question that somebody waits with."""

_SEARCH = """
    select entry_id, version, kind, key, title, text, error_codes, source, score,
           array_remove(array[case when by_meaning is not null then 'meaning' end,
                              case when by_words is not null then 'words' end], null) as found_by,
           tenant_id = skald.shared_tenant() as is_shared
    from skald.search_knowledge(%(vectors)s::jsonb, %(text)s, %(codes)s::text[], %(platform)s,
             %(firmware)s, %(kinds)s::text[], %(depth)s, %(meaning)s, %(wording)s) as found
    join skald.knowledge_entries using (tenant_id, entry_id)
    where valid_until is null
    order by score desc, entry_id
    limit %(limit)s
"""
_ACTIVE = """
    select distinct embedder from skald.knowledge_spaces
    where tenant_id in (%s, skald.shared_tenant()) and is_active
"""


def search(
    transaction: Transaction,
    wanted: Wanted,
    *,
    meaning: float = MEANING,
    wording: float = WORDING,
) -> list[Source]:
    """Return the entries closest to what is wanted, best first: the tenant's and shared ones.

    `meaning` and `wording` weigh the two rankings.
    """
    with span(Kind.DATABASE, "knowledge search"):
        return transaction.all(
            Source,
            _SEARCH,
            {
                "vectors": json.dumps(_vectors(transaction, wanted.text)),
                "text": wanted.text,
                "codes": list(wanted.error_codes),
                "platform": wanted.platform,
                "firmware": wanted.firmware,
                "kinds": list(wanted.kinds),
                "depth": max(DEPTH, wanted.limit),
                "meaning": meaning,
                "wording": wording,
                "limit": wanted.limit,
            },
        )


def _vectors(transaction: Transaction, text: str) -> dict[str, str]:
    """Return the text as each space to be searched sees it, by embedder.

    A space whose embedder does not answer now is left out: words find entries all the same.
    """
    rows = transaction.execute(_ACTIVE, (transaction.tenant_id,)).fetchall()
    vectors = {}
    for name in [row["embedder"] for row in rows]:
        try:
            vectors[name] = literal(embedder_named(name).embed([text], QUESTION_SECONDS)[0])
        except (Temporary, ModelRefused):
            logger.warning("not searched by meaning", extra={"embedder": name}, exc_info=True)
    return vectors
