"""Vector spaces: one embedder's view of a tenant's entries, filled beside the active one."""

from collections.abc import Sequence
from uuid import UUID

from pydantic import BaseModel

from skald.knowledge.embedders import Embedder, Vector, chosen_embedder, embedder_named
from skald.state.postgres import Transaction

BITE = 100
"""Entries embedded in one transaction."""

_OPEN = """
    insert into skald.knowledge_spaces (tenant_id, embedder, dimensions, is_active)
    values (%(tenant)s, %(embedder)s, %(dimensions)s,
            not exists (select from skald.knowledge_spaces
                        where tenant_id = %(tenant)s and is_active))
    on conflict do nothing
"""
_MISSING = """
    select entry_id, title || E'\\n' || text as text
    from skald.knowledge_entries as entry
    where tenant_id = %(tenant)s and valid_until is null
      and not exists (select from skald.knowledge_embeddings as held
                      where held.tenant_id = entry.tenant_id and held.embedder = %(embedder)s
                        and held.entry_id = entry.entry_id)
    order by entry_id
    limit %(bite)s
"""
_EMBED = """
    insert into skald.knowledge_embeddings (tenant_id, embedder, entry_id, dimensions,
        kind, error_codes, platform, firmware, embedding)
    select tenant_id, %(embedder)s, entry_id, %(dimensions)s,
           kind, error_codes, platform, firmware, %(vector)s::halfvec
    from skald.knowledge_entries
    where tenant_id = %(tenant)s and entry_id = %(entry)s and valid_until is null
    on conflict do nothing
"""
_SWITCH = """
    delete from skald.knowledge_spaces where tenant_id = %(tenant)s and embedder <> %(embedder)s
"""


class Space(BaseModel):
    embedder: str
    is_active: bool


class _Missing(BaseModel):
    entry_id: UUID
    text: str


def lock(transaction: Transaction) -> None:
    """Let one transaction at a time change a tenant's entries and spaces."""
    key = f"knowledge {transaction.tenant_id}"
    transaction.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (key,))


def start_reembedding(transaction: Transaction, embedder: Embedder) -> None:
    """Open a space beside the active one; `embed_missing` fills it and then switches to it."""
    lock(transaction)
    parameters = {"dimensions": embedder.dimensions, "embedder": embedder.name}
    transaction.execute(_OPEN, {"tenant": transaction.tenant_id} | parameters)


def spaces(transaction: Transaction) -> list[Space]:
    """Return the tenant's spaces, the one that was opened last at the end."""
    return transaction.all(
        Space,
        "select embedder, is_active from skald.knowledge_spaces where tenant_id = %s"
        " order by created_at",
        (transaction.tenant_id,),
    )


def embed_missing(transaction: Transaction) -> int:
    """Embed a bite of what a space lacks; the newest space takes over once it lacks nothing.

    Returns how many entries were embedded, 0 when all is done. What a killed process has committed
    is not embedded again. While it runs, searches stay in the active space.
    """
    lock(transaction)
    opened = spaces(transaction)
    if not opened:
        start_reembedding(transaction, chosen_embedder())
        opened = spaces(transaction)
    embedded = sum(_fill(transaction, embedder_named(space.embedder)) for space in opened)
    if not embedded and not opened[-1].is_active:
        _switch(transaction, opened[-1].embedder)
    return embedded


def _fill(transaction: Transaction, embedder: Embedder) -> int:
    parameters = {"tenant": transaction.tenant_id, "embedder": embedder.name, "bite": BITE}
    missing = transaction.all(_Missing, _MISSING, parameters)
    if missing:
        vectors = embedder.embed([entry.text for entry in missing])
        rows = [
            parameters
            | {
                "dimensions": embedder.dimensions,
                "entry": entry.entry_id,
                "vector": literal(vector),
            }
            for entry, vector in zip(missing, vectors, strict=True)
        ]
        transaction.execute_many(_EMBED, rows)
    return len(missing)


def _switch(transaction: Transaction, embedder: str) -> None:
    parameters = {"tenant": transaction.tenant_id, "embedder": embedder}
    transaction.execute(_SWITCH, parameters)
    transaction.execute(
        "update skald.knowledge_spaces set is_active = true"
        " where tenant_id = %(tenant)s and embedder = %(embedder)s",
        parameters,
    )


def literal(vector: Sequence[float] | Vector) -> str:
    """Return a vector as pgvector reads it."""
    return f"[{','.join(f'{number:.5g}' if number else '0' for number in vector)}]"
