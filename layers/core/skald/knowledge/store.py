"""Entries and their versions: load, supersede, retire (V-09)."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from skald.knowledge.entries import Loaded, NewEntry
from skald.knowledge.spaces import embed_here, lock
from skald.messaging.envelope import derived_id
from skald.postgres import Transaction

SHARED = UUID(int=0)
"""The tenant of shared entries: all read them, only the migrator's role writes them."""

_SAME = """
    select title = %(title)s and text = %(text)s and error_codes = %(error_codes)s
           and (platform, firmware, source) is not distinct from
               (%(platform)s, %(firmware)s, %(source)s)
    from skald.knowledge_entries
    where tenant_id = %(tenant)s and entry_id = %(entry)s and valid_until is null
"""
_END = """
    with ended as (
        update skald.knowledge_entries set valid_until = clock_timestamp()
        where tenant_id = %(tenant)s and valid_until is null and entry_id = any(%(entries)s)
        returning entry_id
    )
    delete from skald.knowledge_embeddings as held using ended
    where held.tenant_id = %(tenant)s and held.entry_id = ended.entry_id
"""
_INSERT = """
    insert into skald.knowledge_entries (tenant_id, entry_id, version, kind, key, library, title,
        text, error_codes, platform, firmware, source)
    select %(tenant)s, %(entry)s, coalesce(max(version), 0) + 1, %(kind)s, %(key)s, %(library)s,
        %(title)s, %(text)s, %(error_codes)s, %(platform)s, %(firmware)s, %(source)s
    from skald.knowledge_entries where tenant_id = %(tenant)s and entry_id = %(entry)s
"""
_DROPPED = """
    select entry_id from skald.knowledge_entries
    where tenant_id = %s and library = %s and valid_until is null and not entry_id = any(%s)
"""


def add(
    transaction: Transaction, entries: Sequence[NewEntry], *, library: str | None = None
) -> Loaded:
    """Add entries of the tenant, or supersede those with the same kind and key.

    An entry with the content of the current version changes nothing, so an add can be repeated.
    Entries for a remote embedder are found by words until `embed_missing` has embedded them.
    """
    lock(transaction)
    outcome = Counter(_put(transaction, entry, library) for entry in entries)
    if outcome["added"] or outcome["changed"]:
        embed_here(transaction)
    return Loaded(**outcome)


def load(transaction: Transaction, library: str, entries: Sequence[NewEntry]) -> Loaded:
    """Make a library hold these entries and no others. Entries it no longer names are retired."""
    loaded = add(transaction, entries, library=library)
    named = [_id(transaction, entry.kind, entry.key) for entry in entries]
    dropped = transaction.execute(_DROPPED, (transaction.tenant_id, library, named)).fetchall()
    _end(transaction, *(row["entry_id"] for row in dropped))
    return loaded.model_copy(update={"retired": len(dropped)})


def retire(transaction: Transaction, kind: str, key: str) -> bool:
    """Remove an entry from searches and say whether there was one. Its versions stay readable."""
    lock(transaction)
    entry_id = _id(transaction, kind, key)
    is_current = transaction.value(
        "select true from skald.knowledge_entries"
        " where tenant_id = %s and entry_id = %s and valid_until is null",
        (transaction.tenant_id, entry_id),
    )
    _end(transaction, entry_id)
    return bool(is_current)


def _put(transaction: Transaction, entry: NewEntry, library: str | None) -> str:
    entry_id = _id(transaction, entry.kind, entry.key)
    parameters = entry.model_dump() | {
        "tenant": transaction.tenant_id,
        "entry": entry_id,
        "library": library,
        "error_codes": list(entry.error_codes),
    }
    is_same = transaction.value(_SAME, parameters)
    if is_same:
        return "unchanged"
    _end(transaction, entry_id)
    transaction.execute(_INSERT, parameters)
    return "added" if is_same is None else "changed"


def _end(transaction: Transaction, *entries: UUID) -> None:
    transaction.execute(_END, {"tenant": transaction.tenant_id, "entries": list(entries)})


def _id(transaction: Transaction, kind: str, key: str) -> UUID:
    return derived_id("knowledge", transaction.tenant_id, kind, key)
