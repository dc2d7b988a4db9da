"""All SQL of the knowledge context; `skald.knowledge` holds the kernel's SQL."""

from typing import Any

from knowledge.domain import Entry, EntrySummary, Version
from skald.knowledge.store import SHARED
from skald.listing import ListQuery, Page, Resource
from skald.postgres import Transaction

_FIELDS = ["kind", "key", "version", "title", "platform", "firmware", "source", "library"]
_ENTRIES = Resource(
    EntrySummary,
    ("knowledge", "entries"),
    key="entry_id",
    sort="kind,key",
    sortable=[*_FIELDS, "valid_from", "is_shared"],
    filterable=[*_FIELDS, "valid_from", "is_shared"],
    shared=[SHARED],
)


def list_entries(tx: Transaction, query: ListQuery) -> Page[EntrySummary | dict[str, Any]]:
    """Return one page of the current entries, the tenant's own and the shared ones."""
    return _ENTRIES.page(tx, query)


def find_entry(tx: Transaction, kind: str, key: str) -> Entry | None:
    """Return an entry with its versions: the tenant's own, else the shared one of that name."""
    for tenant_id in (tx.tenant_id, SHARED):
        versions = tx.all(
            Version,
            """
            select version, title, text, error_codes, platform, firmware, source,
                   valid_from, valid_until
            from skald.knowledge_entries
            where tenant_id = %s and kind = %s and key = %s
            order by version desc
            """,
            (tenant_id, kind, key),
        )
        if versions:
            return Entry(
                kind=kind,
                key=key,
                is_shared=tenant_id == SHARED,
                is_current=versions[0].valid_until is None,
                versions=versions,
            )
    return None
