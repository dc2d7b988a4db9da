"""HTTP routes of the knowledge base (V-09)."""

from typing import Annotated, Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import BeforeValidator

from knowledge import repository
from knowledge.domain import Entry, EntryContent, EntrySummary, NewEntries, Reembedding
from skald.config import settings
from skald.entrypoints.http import Api, Listed, Tx
from skald.errors import InvalidInput, NotFound
from skald.knowledge.embedders import embedder_named
from skald.knowledge.entries import Loaded, Source, Wanted
from skald.knowledge.ranking import search
from skald.knowledge.spaces import Space, spaces_of, start_reembedding
from skald.knowledge.store import add, retire
from skald.listing import Page
from skald.models import ModelRefused

ENTRY = "/knowledge/<kind>/<key>"
_KIND = r"^[a-z_]{1,50}$"
_NO_NUL = r"^[^\x00]+$"

Kind = Annotated[str, Path(pattern=_KIND)]
# API Gateway hands a path over as it was sent: a key's slash comes as %2F.
Key = Annotated[str, BeforeValidator(unquote), Path(pattern=_NO_NUL, max_length=200)]
# Empty where there is none: in a query everything is text, so null would be a word like any other.
CodeFilter = Annotated[str, Query(pattern=r"^[^\x00]*$", max_length=100)]
Filter = Annotated[str, Query(pattern=r"^[^\x00]*$", max_length=200)]
KindFilter = Annotated[str, Query(pattern=r"^[a-z_]{0,50}$")]

api = Api()
handler = api.handler


@api.route("GET", "/knowledge")
def list_entries(tx: Tx, query: Listed) -> Page[EntrySummary | dict[str, Any]]:
    """List the current entries: one's own, and those that are everybody's."""
    return repository.list_entries(tx, query)


@api.route("POST", "/knowledge")
def load_entries(new: NewEntries, tx: Tx) -> Loaded:
    """Add entries of one's own or supersede them, all or none; what says the same is unchanged."""
    return add(tx, new.entries)


@api.route("GET", "/knowledge/search")
def search_entries(
    tx: Tx,
    q: Annotated[str, Query(pattern=_NO_NUL, min_length=1, max_length=4000)],
    error_code: CodeFilter = "",
    platform: Filter = "",
    firmware: Filter = "",
    kind: KindFilter = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> list[Source]:
    """Find the entries closest to a question by meaning and by words, best first.

    Each filter that is given holds before anything is ranked; `firmware` is a version, as v2.4.1.
    While the embedder does not answer, words alone find, and `found_by` tells so.
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
    """Say by what one's own entries are embedded, and how far a re-embedding has come."""
    return spaces_of(tx)


@api.route("POST", "/knowledge/reembed", status=202, problems=(503,))
def reembed(wish: Reembedding, tx: Tx) -> list[Space]:
    """Embed the tenant's own entries again in the background; searches switch when all are done.

    A second request for the same embedder changes nothing; one for another embedder starts again.
    """
    # Any other endpoint would be one that a tenant makes our functions call.
    allowed = sorted({"local", settings().embedder})
    if wish.embedder not in allowed:
        raise InvalidInput(f"there is no such embedder here; there are: {', '.join(allowed)}")
    try:
        start_reembedding(tx, embedder_named(wish.embedder))
    except ModelRefused as error:
        raise InvalidInput("the embedder refuses to be asked, tell the operator") from error
    return spaces_of(tx)


@api.route("GET", ENTRY)
def get_entry(kind: Kind, key: Key, tx: Tx) -> Entry:
    """Get an entry in all its versions: one's own, else the shared one of that name."""
    return _found(repository.find_entry(tx, kind, key))


@api.route("PUT", ENTRY)
def put_entry(kind: Kind, key: Key, content: EntryContent, tx: Tx) -> Entry:
    """Add an entry of one's own or supersede it; saying the same again changes nothing."""
    add(tx, [content.entry(kind, key)])
    return _found(repository.find_entry(tx, kind, key))


@api.route("DELETE", ENTRY)
def retire_entry(kind: Kind, key: Key, tx: Tx) -> Entry:
    """Take an entry of one's own out of searches; its versions stay readable."""
    if not retire(tx, kind, key):
        raise NotFound("no such entry of your own")
    return _found(repository.find_entry(tx, kind, key))


def _found(entry: Entry | None) -> Entry:
    if entry is None:
        raise NotFound("no such entry")
    return entry
