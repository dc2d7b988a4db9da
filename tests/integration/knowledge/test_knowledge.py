"""V-09: hybrid search over the entries of a tenant and the shared ones, and no others."""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid4

import pytest
from psycopg import Connection, errors
from psycopg.rows import DictRow
from tests.integration.support import together

from skald.knowledge import embedders as embedders_module
from skald.knowledge import ranking as ranking_module
from skald.knowledge import spaces as spaces_module
from skald.knowledge.entries import Loaded, NewEntry, Wanted
from skald.knowledge.ranking import search
from skald.knowledge.spaces import embed_missing, spaces_of, start_reembedding, waiting
from skald.knowledge.store import SHARED, add, load, retire
from skald.models import ModelUnreachable
from skald.postgres import Database

BROWNOUT = NewEntry(
    key="E2107",
    kind="error_code",
    title="Brown-out",
    text="The supply voltage fell below nine volts while the image was flashed.",
    error_codes=("E2107",),
    platform="J7",
    firmware="v2.%",
)
ROLLBACK = NewEntry(
    key="E3309",
    kind="error_code",
    title="Rollback",
    text="The new slot did not verify and the boot chain returned to the previous one.",
    error_codes=("E3309",),
)
# Among so many tenants, two have the same 32 bits almost always.
_NAMESAKES = """
    select array_agg(tenant) as tenants
    from (select gen_random_uuid() as tenant from generate_series(1, 500000)) as drawn
    group by skald.search_keys('{E2107}', array[tenant], '{note}', '{*}')
    having count(*) > 1 limit 1
"""


def titles(database: Database, tenant: UUID, **wanted: object) -> list[str]:
    with database.transaction(tenant) as tx:
        return [one.title for one in search(tx.call, Wanted.model_validate(wanted))]


def added(database: Database, tenant: UUID, *entries: NewEntry) -> Loaded:
    with database.transaction(tenant) as tx:
        return add(tx, entries)


def test_both_ways_find_an_entry(database: Database, tenant: UUID) -> None:
    """V-09: an entry near by meaning and by words comes first, with the ways that found it."""
    added(database, tenant, BROWNOUT, ROLLBACK)
    with database.transaction(tenant) as tx:
        found = search(tx.call, Wanted(text="supply voltage too low", kinds=("error_code",)))
    assert found[0].title == "Brown-out"
    assert found[0].found_by == ["meaning", "words"]
    assert not found[0].is_shared


def test_a_search_takes_one_round_trip(database: Database, tenant: UUID) -> None:
    """V-09: without a remote embedder a search is a single statement."""
    added(database, tenant, BROWNOUT)
    with database.single_statement(tenant) as tx:
        (found,) = search(tx.call, Wanted(text="supply voltage", error_codes=("E2107",)))
    assert found.found_by == ["meaning", "words"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"error_codes": ["E2107"]}, ["Brown-out"]),
        ({"error_codes": ["E3309", "E1"]}, ["Rollback"]),
        ({"error_codes": ["E1"]}, []),
        ({"platform": "J7"}, ["Brown-out", "Rollback"]),
        ({"platform": "J6"}, ["Rollback"]),
        ({"firmware": "v2.4"}, ["Brown-out", "Rollback"]),
        ({"firmware": "v3.0"}, ["Rollback"]),
        ({"kinds": ["diagnosis"]}, []),
        # These are the index's own marks for any code, kind or platform, and for no platform.
        ({"error_codes": ["*"]}, []),
        ({"kinds": ["*"]}, []),
        ({"platform": "*"}, ["Rollback"]),
        ({"platform": "-"}, ["Rollback"]),
    ],
)
def test_filters_come_first(
    database: Database, tenant: UUID, filters: dict[str, object], found: list[str]
) -> None:
    """V-09: code, platform, firmware pattern and kind exclude an entry, however near it is."""
    added(database, tenant, BROWNOUT, ROLLBACK)
    own = titles(database, tenant, text="supply voltage", limit=100, **filters)
    assert sorted(own) == found


def test_a_new_version_supersedes(database: Database, tenant: UUID) -> None:
    """V-09: only the newest version is found, old ones stay readable, repeats change nothing."""
    assert added(database, tenant, BROWNOUT) == Loaded(added=1)
    assert added(database, tenant, BROWNOUT) == Loaded(unchanged=1)
    newer = BROWNOUT.model_copy(update={"text": "A weak battery."})
    assert added(database, tenant, newer) == Loaded(changed=1)
    with database.transaction(tenant) as tx:
        (found,) = search(tx.call, Wanted(text="battery", error_codes=("E2107",)))
        stored = tx.execute(
            "select version, valid_until is null as is_current from skald.knowledge_entries"
            " where tenant_id = %s order by version",
            (tenant,),
        ).fetchall()
    assert (found.version, found.text) == (2, "A weak battery.")
    assert [row["is_current"] for row in stored] == [False, True]


def test_what_is_retired_is_not_found_and_may_come_back(database: Database, tenant: UUID) -> None:
    """V-09: a search does not find a retracted diagnosis; retiring it twice is harmless."""
    added(database, tenant, BROWNOUT)
    for was_there in (True, False):
        with database.transaction(tenant) as tx:
            assert retire(tx, "error_code", "E2107") is was_there
    assert titles(database, tenant, text="supply voltage", error_codes=["E2107"]) == []
    assert added(database, tenant, BROWNOUT) == Loaded(added=1)


def test_a_foreign_entry_never_appears(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """V-09, Q-10: a search for the exact text of another tenant's entry does not find it."""
    added(database, other_tenant, BROWNOUT)
    assert titles(database, tenant, text=BROWNOUT.text, error_codes=["E2107"]) == []
    added(database, tenant, ROLLBACK)
    assert "Brown-out" not in titles(database, tenant, text=BROWNOUT.text, limit=100)
    with database.transaction(tenant) as tx:
        found = search(tx.call, Wanted(text=BROWNOUT.text, limit=100))
    assert {one.title for one in found if not one.is_shared} == {"Rollback"}


@pytest.fixture
def shared(migrator_database: Database) -> Iterator[NewEntry]:
    """A shared entry with its own code."""
    entry = BROWNOUT.model_copy(update={"key": str(uuid4()), "error_codes": (str(uuid4()),)})
    with migrator_database.transaction(SHARED) as tx:
        add(tx, [entry])
    yield entry
    with migrator_database.transaction(SHARED) as tx:
        retire(tx, entry.kind, entry.key)


@pytest.mark.usefixtures("shared")  # so that every tenant has a space to search
def test_keys_that_are_equal_by_chance_lead_to_no_foreign_entry(
    database: Database, admin: Connection[DictRow]
) -> None:
    """V-09, Q-10: two tenants with the same numbers in the search index stay isolated."""
    row = admin.execute(_NAMESAKES).fetchone()
    assert row is not None
    one, other = row["tenants"][:2]
    note = BROWNOUT.model_copy(update={"kind": "note", "platform": None, "firmware": None})
    added(database, other, note)
    wanted = {"text": note.text, "error_codes": note.error_codes, "kinds": ["note"]}
    assert titles(database, other, **wanted) == ["Brown-out"]
    assert titles(database, one, **wanted) == []


def test_every_tenant_finds_shared_entries(
    database: Database, tenant: UUID, shared: NewEntry
) -> None:
    """V-09: a tenant without own entries finds shared entries."""
    with database.transaction(tenant) as tx:
        (found,) = search(tx.call, Wanted(text="voltage", error_codes=shared.error_codes))
    assert found.is_shared


@pytest.mark.parametrize("table", ["knowledge_entries", "knowledge_embeddings", "knowledge_spaces"])
def test_only_the_operator_writes_shared_entries(
    database: Database, shared: NewEntry, tenant: UUID, table: str
) -> None:
    """Q-10: no tenant changes or deletes shared rows, not even with the shared tenant's id."""
    for claimed in (tenant, SHARED):
        with database.transaction(claimed) as tx:
            name = f"skald.{table}"
            where = "where tenant_id = skald.shared_tenant()"
            changed = tx.execute(f"update {name} set tenant_id = tenant_id {where}")  # noqa: S608
            deleted = tx.execute(f"delete from {name} {where}")  # noqa: S608
            assert (changed.rowcount, deleted.rowcount) == (0, 0)
    with pytest.raises(errors.InsufficientPrivilege), database.transaction(SHARED) as tx:
        add(tx, [ROLLBACK])


def test_racing_loads_of_a_library_are_one(database: Database, tenant: UUID) -> None:
    """V-09: of several loads at the same moment one adds the entries, the others change nothing."""

    def once() -> Loaded:
        with database.transaction(tenant) as tx:
            return load(tx, "codes", [BROWNOUT, ROLLBACK])

    outcomes = together(once, once, once)
    assert sorted(outcome.added for outcome in outcomes) == [0, 0, 2]
    assert sum(outcome.unchanged for outcome in outcomes) == 4


def test_a_load_retires_what_its_library_no_longer_names(database: Database, tenant: UUID) -> None:
    """V-09: a load retires entries of its library only."""
    own = BROWNOUT.model_copy(update={"key": "mine"})
    added(database, tenant, own)
    with database.transaction(tenant) as tx:
        load(tx, "codes", [BROWNOUT, ROLLBACK])
        assert load(tx, "codes", [ROLLBACK]) == Loaded(unchanged=1, retired=1)
    assert titles(database, tenant, text="voltage", error_codes=["E2107"]) == ["Brown-out"]


class Reversed:
    """Vectors of another space with the same length: mixing both spaces gives wrong results.

    It runs each function of `meanwhile` once while it embeds.
    """

    name = "reversed"
    dimensions = embedders_module.Local.dimensions
    is_remote = True

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.meanwhile: list[Callable[[], object]] = []

    def embed(self, texts: Sequence[str], seconds: float = 0.0) -> list[list[float]]:  # noqa: ARG002
        while self.meanwhile:
            self.meanwhile.pop()()
        self.embedded += texts
        return [vector[::-1] for vector in embedders_module.Local().embed(texts)]


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Reversed:
    """An embedder beside the local one, found by its name. It embeds one entry at a time."""
    embedder = Reversed()
    known = {"local": embedders_module.Local(), "reversed": embedder}
    for module in ("spaces", "ranking"):
        monkeypatch.setattr(f"skald.knowledge.{module}.embedder_named", known.__getitem__)
    monkeypatch.setattr(spaces_module, "BITE", 1)
    ranking_module._embedded.cache_clear()
    return embedder


@pytest.fixture
def chosen(remote: Reversed, monkeypatch: pytest.MonkeyPatch) -> Reversed:
    """The remote embedder as the one that the setting names."""
    monkeypatch.setattr(spaces_module, "chosen_embedder", lambda: remote)
    return remote


def die() -> None:
    raise KeyboardInterrupt


def by_meaning(database: Database, tenant: UUID) -> list[str]:
    with database.transaction(tenant) as tx:
        found = search(tx.call, Wanted(text=BROWNOUT.text), wording=0)
    return [one.title for one in found if not one.is_shared and "meaning" in one.found_by]


def is_waiting(relay_database: Database, tenant: UUID) -> bool:
    with relay_database.transaction(None) as tx:
        return tenant in waiting(tx, 10_000)


def change_half_way(database: Database, tenant: UUID, remote: Reversed) -> None:
    """Start to embed two entries again, and stop after the first one."""
    added(database, tenant, BROWNOUT, ROLLBACK)
    with database.transaction(tenant) as tx:
        start_reembedding(tx, remote)
    assert embed_missing(database, tenant) == 1


def test_a_reembedding_goes_on_where_it_stopped_and_switches_at_once(
    database: Database, tenant: UUID, remote: Reversed
) -> None:
    """V-09: searches use the old space until the new one is complete; no work is done twice."""
    change_half_way(database, tenant, remote)
    remote.meanwhile = [die]
    with pytest.raises(KeyboardInterrupt):
        embed_missing(database, tenant)
    done: list[int] = []
    while not done or done[-1]:
        with database.transaction(tenant) as tx:
            assert [space.embedder for space in spaces_of(tx) if space.is_active] == ["local"]
        assert by_meaning(database, tenant) == ["Brown-out", "Rollback"]
        done.append(embed_missing(database, tenant))
    assert done == [1, 0]
    assert len(remote.embedded) == 2
    with database.transaction(tenant) as tx:
        assert [space.embedder for space in spaces_of(tx)] == ["reversed"]
    assert by_meaning(database, tenant)[0] == "Brown-out"


def test_the_last_chosen_embedder_counts(
    database: Database, tenant: UUID, remote: Reversed
) -> None:
    """V-09: if the old embedder is chosen again during a change, its space stays complete."""
    change_half_way(database, tenant, remote)

    def change_ones_mind() -> None:
        with database.transaction(tenant) as tx:
            start_reembedding(tx, embedders_module.Local())

    remote.meanwhile = [change_ones_mind]
    while embed_missing(database, tenant):
        pass
    with database.transaction(tenant) as tx:
        (space,) = spaces_of(tx)
    assert (space.embedder, space.is_active, space.embedded) == ("local", True, 2)


def test_a_remote_embedder_is_not_asked_in_the_callers_transaction(
    database: Database, relay_database: Database, tenant: UUID, chosen: Reversed
) -> None:
    """V-09: a new entry is found by words at once, and by meaning after the next job."""
    added(database, tenant, BROWNOUT)
    assert chosen.embedded == []
    assert is_waiting(relay_database, tenant)
    assert "Brown-out" in titles(database, tenant, text="supply voltage")
    assert by_meaning(database, tenant) == []
    assert [embed_missing(database, tenant) for _ in range(2)] == [1, 0]
    assert by_meaning(database, tenant) == ["Brown-out"]
    assert not is_waiting(relay_database, tenant)


def test_a_missing_space_is_opened_by_the_job(
    database: Database, tenant: UUID, chosen: Reversed
) -> None:
    """V-09: entries from before there were spaces are embedded by the chosen embedder."""
    added(database, tenant, BROWNOUT)
    with database.transaction(tenant) as tx:
        tx.execute("delete from skald.knowledge_spaces where tenant_id = %s", (tenant,))
    assert embed_missing(database, tenant) == 1
    assert chosen.embedded == [f"{BROWNOUT.title}\n{BROWNOUT.text}"]
    assert by_meaning(database, tenant) == ["Brown-out"]


def test_the_first_vectors_tell_the_length_of_all(
    database: Database, tenant: UUID, chosen: Reversed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-09: vectors of another length cannot be compared, so they are refused."""
    added(database, tenant, BROWNOUT)
    embed_missing(database, tenant)
    added(database, tenant, ROLLBACK)
    monkeypatch.setattr(chosen, "embed", lambda texts, *_: [[1.0, 2.0] for _ in texts])
    with pytest.raises(errors.CheckViolation):
        embed_missing(database, tenant)


def test_nothing_is_locked_while_an_embedder_works(
    database: Database, tenant: UUID, chosen: Reversed
) -> None:
    """V-09: a tenant adds an entry during the job without a wait; the next step embeds it."""
    added(database, tenant, BROWNOUT)
    chosen.meanwhile = [lambda: added(database, tenant, ROLLBACK)]
    assert [embed_missing(database, tenant) for _ in range(3)] == [1, 1, 0]
    assert sorted(by_meaning(database, tenant)) == ["Brown-out", "Rollback"]


def test_no_old_text_stands_for_a_new_version(
    database: Database, relay_database: Database, tenant: UUID, chosen: Reversed
) -> None:
    """V-09: if an entry is superseded while it is embedded, its vector is not stored."""
    added(database, tenant, BROWNOUT)
    newer = BROWNOUT.model_copy(update={"text": "A weak battery."})
    chosen.meanwhile = [lambda: added(database, tenant, newer)]
    embed_missing(database, tenant)
    assert by_meaning(database, tenant) == []
    assert is_waiting(relay_database, tenant)
    assert [embed_missing(database, tenant) for _ in range(2)] == [1, 0]
    assert "battery" in chosen.embedded[-1]


def test_a_question_is_embedded_once_for_all_kinds(
    database: Database, tenant: UUID, chosen: Reversed
) -> None:
    """V-09: the same text searched in several kinds is one call of the remote embedder."""
    added(database, tenant, BROWNOUT)
    embed_missing(database, tenant)
    chosen.embedded.clear()
    for kind in ("error_code", "diagnosis"):
        titles(database, tenant, text="supply voltage", kinds=(kind,))
    assert chosen.embedded == ["supply voltage"]


def test_words_find_while_the_embedder_is_away(
    database: Database, tenant: UUID, chosen: Reversed
) -> None:
    """V-09: if the embedder is unreachable, a search uses words alone."""

    def unreachable() -> None:
        raise ModelUnreachable("away")

    added(database, tenant, BROWNOUT)
    embed_missing(database, tenant)
    chosen.meanwhile = [unreachable]
    assert "Brown-out" in titles(database, tenant, text="supply voltage")
