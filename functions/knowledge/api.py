"""HTTP routes of the knowledge base (V-09)."""

from typing import Annotated, Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import BeforeValidator

from knowledge import repository
from knowledge.domain import Entry, EntrySummary, NewEntries, Reembedding
from skald.config import settings
from skald.entrypoints.http import Api, Listed, Tx
from skald.errors import InvalidInput, NotFound
from skald.knowledge.embedders import embedder_named
from skald.knowledge.entries import EntryContent, Loaded, NewEntry, Source, Wanted
from skald.knowledge.ranking import search
from skald.knowledge.spaces import Space, spaces_of, start_reembedding
from skald.knowledge.store import add, retire
from skald.listing import Page
from skald.models import ModelRefused

ENTRY = "/knowledge/<kind>/<key>"
_KIND = r"^[a-z_]{1,50}$"
_NO_NUL = r"^[^\x00]+$"

Kind = Annotated[str, Path(pattern=_KIND, description="The kind of entry.")]
# API Gateway does not decode the path: a slash in a key arrives as %2F.
Key = Annotated[
    str,
    BeforeValidator(unquote),
    Path(pattern=_NO_NUL, max_length=200, description="The name of the entry, quoted."),
]
# An empty text means no filter: a query string holds only text, so `null` would be a word.
_ANY = r"^[^\x00]*$"
CodeFilter = Annotated[
    str, Query(pattern=_ANY, max_length=100, description="Entries that explain this error code.")
]
PlatformFilter = Annotated[
    str, Query(pattern=_ANY, max_length=200, description="Entries that hold for this platform.")
]
FirmwareFilter = Annotated[
    str,
    Query(pattern=_ANY, max_length=200, description="Entries for this firmware, as `v2.4.1`."),
]
KindFilter = Annotated[str, Query(pattern=r"^[a-z_]{0,50}$", description="Entries of this kind.")]

api = Api()
handler = api.handler


@api.route("GET", "/knowledge")
def list_entries(tx: Tx, query: Listed) -> Page[EntrySummary | dict[str, Any]]:
    """List the current entries: the tenant's own and the shared ones."""
    return repository.list_entries(tx, query)


@api.route("POST", "/knowledge")
def load_entries(new: NewEntries, tx: Tx) -> Loaded:
    """Add or supersede entries of the tenant: all of them or none."""
    return add(tx, new.entries)


@api.route("GET", "/knowledge/search")
def search_entries(
    tx: Tx,
    q: Annotated[
        str, Query(pattern=_NO_NUL, min_length=1, max_length=4000, description="The question.")
    ],
    error_code: CodeFilter = "",
    platform: PlatformFilter = "",
    firmware: FirmwareFilter = "",
    kind: KindFilter = "",
    limit: Annotated[int, Query(ge=1, le=100, description="Entries to return at most.")] = 10,
) -> list[Source]:
    """Find the entries closest to a question, by meaning and by words, best first.

    Filters apply before the ranking. While the embedder does not answer, entries are found by words
    only; `found_by` says so.
    """
    wanted = Wanted(
        text=q,
        error_codes=(error_code,) if error_code else (),
        platform=platform or None,
        firmware=firmware or None,
        kinds=(kind,) if kind else (),
        limit=limit,
    )
    return search(tx.call, wanted)


@api.route("GET", "/knowledge/spaces")
def list_spaces(tx: Tx) -> list[Space]:
    """Get the embedders of the tenant's own entries, and how far a re-embedding is."""
    return spaces_of(tx)


@api.route("POST", "/knowledge/reembed", status=202, problems=(503,))
def reembed(wish: Reembedding, tx: Tx) -> list[Space]:
    """Embed the tenant's own entries again. Searches switch when all are done.

    A second request for the same embedder changes nothing; one for another embedder starts again.
    """
    # If other endpoints were allowed, a tenant could make our functions call any of them.
    allowed = sorted({"local", settings().embedder})
    if wish.embedder not in allowed:
        raise InvalidInput(f"unknown embedder; these are known: {', '.join(allowed)}")
    try:
        start_reembedding(tx, embedder_named(wish.embedder))
    except ModelRefused as error:
        raise InvalidInput("the embedder refuses our requests; tell the operator") from error
    return spaces_of(tx)


@api.route("GET", ENTRY)
def get_entry(kind: Kind, key: Key, tx: Tx) -> Entry:
    """Get an entry with all its versions: the tenant's own, else the shared one of that name."""
    return _found(repository.find_entry(tx, kind, key))


@api.route("PUT", ENTRY)
def put_entry(kind: Kind, key: Key, content: EntryContent, tx: Tx) -> Entry:
    """Add or supersede an entry of the tenant. The same content again changes nothing."""
    add(tx, [NewEntry(kind=kind, key=key, **content.model_dump())])
    return _found(repository.find_entry(tx, kind, key))


@api.route("DELETE", ENTRY)
def retire_entry(kind: Kind, key: Key, tx: Tx) -> Entry:
    """Remove an entry of the tenant from searches. Its versions stay readable."""
    if not retire(tx, kind, key):
        raise NotFound("no such entry of your own")
    return _found(repository.find_entry(tx, kind, key))


def _found(entry: Entry | None) -> Entry:
    if entry is None:
        raise NotFound("no such entry")
    return entry
