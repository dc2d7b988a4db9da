"""Vector spaces: the entries of a tenant as one embedder sees them (V-09)."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, Field

from skald.knowledge.embedders import Embedder, Vector, chosen_embedder, embedder_named
from skald.postgres import Database, Transaction

BITE = 100
"""Entries embedded at a time."""

_OPEN = """
    insert into skald.knowledge_spaces (tenant_id, embedder, dimensions, is_active)
    values (%(tenant)s, %(embedder)s, %(dimensions)s,
            not exists (select from skald.knowledge_spaces
                        where tenant_id = %(tenant)s and is_active))
    on conflict do nothing
"""
_GIVE_UP = """
    delete from skald.knowledge_spaces
    where tenant_id = %(tenant)s and embedder <> %(embedder)s and not is_active
"""
_SPACES = """
    select embedder, is_active,
           (select count(embedding) from skald.knowledge_embeddings as held
            where (held.tenant_id, held.embedder) = (space.tenant_id, space.embedder)) as embedded,
           (select count(*) from skald.knowledge_entries as entry
            where entry.tenant_id = space.tenant_id and valid_until is null) as entries
    from skald.knowledge_spaces as space
    where tenant_id = %s
    order by created_at
"""
_MISSING = """
    select entry_id, version, title || E'\\n' || text as text
    from skald.knowledge_entries as entry
    where tenant_id = %(tenant)s and valid_until is null
      and not exists (select from skald.knowledge_embeddings as held
                      where held.tenant_id = entry.tenant_id and held.embedder = %(embedder)s
                        and held.entry_id = entry.entry_id and embedding is not null)
    order by entry_id
    limit %(bite)s
"""
_MEASURE = """
    update skald.knowledge_spaces set dimensions = %(dimensions)s
    where tenant_id = %(tenant)s and embedder = %(embedder)s and dimensions is null
"""
# When an entry was superseded during its embedding, the new version stays without a vector.
_EMBED = """
    insert into skald.knowledge_embeddings as held (tenant_id, embedder, entry_id, dimensions,
        kind, error_codes, platform, firmware, words, embedding)
    select tenant_id, embedder, entry_id, dimensions,
           kind, error_codes, platform, firmware, skald.words_of(title, text), vector::halfvec
    from unnest(%(entries)s::uuid[], %(versions)s::integer[], %(vectors)s::text[])
         as made (entry_id, version, vector)
    join skald.knowledge_entries using (entry_id, version)
    join skald.knowledge_spaces using (tenant_id)
    where tenant_id = %(tenant)s and embedder = %(embedder)s and valid_until is null
    on conflict (tenant_id, embedder, entry_id) do update
    set dimensions = excluded.dimensions, embedding = excluded.embedding
    where held.embedding is null
"""
# Before its embedding words find an entry, by its row in the searched space.
_LIST = """
    insert into skald.knowledge_embeddings (tenant_id, embedder, entry_id, kind, error_codes,
        platform, firmware, words)
    select tenant_id, embedder, entry_id, kind, error_codes, platform, firmware,
           skald.words_of(title, text)
    from skald.knowledge_entries as entry join skald.knowledge_spaces as space using (tenant_id)
    where tenant_id = %(tenant)s and embedder = %(embedder)s and is_active and valid_until is null
      and not exists (select from skald.knowledge_embeddings as held
                      where (held.tenant_id, held.embedder, held.entry_id)
                          = (entry.tenant_id, space.embedder, entry.entry_id))
"""
_WAIT = """
    insert into skald.knowledge_waiting (tenant_id) values (%s) on conflict do nothing
"""
_SWITCH = """
    delete from skald.knowledge_spaces where tenant_id = %(tenant)s and embedder <> %(embedder)s
"""


class Space(BaseModel):
    """The tenant's entries as one embedder sees them."""

    embedder: str = Field(description="The name of the embedder.")
    is_active: bool = Field(description="Whether searches use it.")
    embedded: int = Field(description="Entries that have a vector.")
    entries: int = Field(description="Entries that there are.")


class _Missing(BaseModel):
    entry_id: UUID
    version: int
    text: str


class _Bite(NamedTuple):
    embedder: Embedder
    missing: list[_Missing]


def lock(transaction: Transaction) -> None:
    """Let one transaction at a time change a tenant's entries and spaces."""
    key = f"knowledge {transaction.tenant_id}"
    transaction.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))


def start_reembedding(transaction: Transaction, embedder: Embedder) -> None:
    """Open a space beside the active one. `embed_missing` fills it and then switches to it.

    A space that is being filled for another embedder is given up. Raises the errors of the embedder
    when it must be called for the length of its vectors.
    """
    lock(transaction)
    transaction.execute(_GIVE_UP, _place(transaction, embedder))
    _open(transaction, embedder, embedder.dimensions)
    transaction.execute(_WAIT, (transaction.tenant_id,))


def spaces_of(transaction: Transaction) -> list[Space]:
    """Return the spaces of the tenant, the newest last."""
    return transaction.all(Space, _SPACES, (transaction.tenant_id,))


def embed_here(transaction: Transaction) -> None:
    """Embed what the transaction has added when no network is needed. The rest waits."""
    lock(transaction)
    for embedder in _embedders(transaction):
        if embedder.is_remote:
            transaction.execute(_LIST, _place(transaction, embedder))
            transaction.execute(_WAIT, (transaction.tenant_id,))
        else:
            while (bite := _bite(transaction, embedder)).missing:
                _store(transaction, bite, _embed(bite))


def embed_missing(database: Database, tenant_id: UUID) -> int:
    """Embed some entries that a space lacks. The newest space takes over when it is full.

    Returns how many entries were embedded, 0 when all are done. No row is locked while an embedder
    works. What a killed process has stored is not embedded again. Searches use the active space
    until then. Raises the errors of the embedders.
    """
    with database.transaction(tenant_id) as transaction:
        bites = [_bite(transaction, embedder) for embedder in _embedders(transaction)]
    made = [_embed(bite) for bite in bites]
    with database.transaction(tenant_id) as transaction:
        lock(transaction)
        for bite, vectors in zip(bites, made, strict=True):
            _store(transaction, bite, vectors)
        if not any(made):
            _finish(transaction)
    return sum(map(len, made))


def waiting(lookout: Transaction, limit: int) -> list[UUID]:
    """Return the tenants with waiting entries, longest waiting first.

    Only the operator may write shared entries, so only the operator embeds them.
    """
    rows = lookout.execute(
        "select tenant_id from skald.knowledge_waiting"
        " where tenant_id <> skald.shared_tenant() order by since limit %s",
        (limit,),
    )
    return [row["tenant_id"] for row in rows]


def _embedders(transaction: Transaction) -> list[Embedder]:
    """Return the embedders of the tenant's spaces; without a space, open one first."""
    opened = [embedder_named(space.embedder) for space in spaces_of(transaction)]
    if opened:
        return opened
    chosen = chosen_embedder()
    _open(transaction, chosen, None if chosen.is_remote else chosen.dimensions)
    return [chosen]


def _open(transaction: Transaction, embedder: Embedder, dimensions: int | None) -> None:
    parameters = _place(transaction, embedder) | {"dimensions": dimensions}
    transaction.execute(_OPEN, parameters)


def _place(transaction: Transaction, embedder: Embedder) -> dict[str, Any]:
    return {"tenant": transaction.tenant_id, "embedder": embedder.name}


def _bite(transaction: Transaction, embedder: Embedder) -> _Bite:
    parameters = _place(transaction, embedder) | {"bite": BITE}
    return _Bite(embedder, transaction.all(_Missing, _MISSING, parameters))


def _embed(bite: _Bite) -> list[Vector]:
    return bite.embedder.embed([entry.text for entry in bite.missing]) if bite.missing else []


def _store(transaction: Transaction, bite: _Bite, vectors: Sequence[Vector]) -> None:
    if vectors:
        parameters = _place(transaction, bite.embedder) | {
            "dimensions": len(vectors[0]),
            "entries": [entry.entry_id for entry in bite.missing],
            "versions": [entry.version for entry in bite.missing],
            "vectors": [literal(vector) for vector in vectors],
        }
        transaction.later(_MEASURE, parameters)
        transaction.execute(_EMBED, parameters)


def _finish(transaction: Transaction) -> None:
    """Switch to the newest space and end the wait, unless new entries arrived."""
    opened = spaces_of(transaction)
    if any(space.embedded < space.entries for space in opened):
        return
    if not opened[-1].is_active:
        _switch(transaction, opened[-1].embedder)
    transaction.execute(
        "delete from skald.knowledge_waiting where tenant_id = %s", (transaction.tenant_id,)
    )


def _switch(transaction: Transaction, embedder: str) -> None:
    parameters = {"tenant": transaction.tenant_id, "embedder": embedder}
    transaction.execute(_SWITCH, parameters)
    transaction.execute(
        "update skald.knowledge_spaces set is_active = true"
        " where tenant_id = %(tenant)s and embedder = %(embedder)s",
        parameters,
    )


def literal(vector: Sequence[float] | Vector) -> str:
    """Return a vector in pgvector's text form."""
    return f"[{','.join(f'{number:.5g}' if number else '0' for number in vector)}]"
