"""V-09: hybrid retrieval over a tenant's own and the shared entries, and nobody else's."""

from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest
from psycopg import errors
from tests.integration.support import together

from skald.knowledge import (
    SHARED,
    Loaded,
    NewEntry,
    Wanted,
    add,
    embed_missing,
    load,
    retire,
    search,
    start_reembedding,
)
from skald.knowledge import embedders as embedders_module
from skald.knowledge import spaces as spaces_module
from skald.knowledge.spaces import spaces
from skald.state.postgres import Database

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


def titles(database: Database, tenant: UUID, **wanted: object) -> list[str]:
    with database.transaction(tenant) as tx:
        return [one.title for one in search(tx, Wanted.model_validate(wanted))]


def added(database: Database, tenant: UUID, *entries: NewEntry) -> Loaded:
    with database.transaction(tenant) as tx:
        return add(tx, entries)


def test_both_ways_find_an_entry(database: Database, tenant: UUID) -> None:
    """V-09: what is close by meaning and by words comes first, and says how it was found."""
    added(database, tenant, BROWNOUT, ROLLBACK)
    with database.transaction(tenant) as tx:
        found = search(tx, Wanted(text="supply voltage too low", kinds=("error_code",)))
    assert found[0].title == "Brown-out"
    assert found[0].found_by == ["meaning", "words"]
    assert not found[0].is_shared


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
    ],
)
def test_filters_come_first(
    database: Database, tenant: UUID, filters: dict[str, object], found: list[str]
) -> None:
    """V-09: code, platform, firmware pattern and kind are conditions, however near an entry is."""
    added(database, tenant, BROWNOUT, ROLLBACK)
    own = titles(database, tenant, text="supply voltage", limit=100, **filters)
    assert sorted(own) == found


def test_a_new_version_supersedes(database: Database, tenant: UUID) -> None:
    """V-09: only the newest version is found, the old one stays readable, repeats do nothing."""
    assert added(database, tenant, BROWNOUT) == Loaded(added=1)
    assert added(database, tenant, BROWNOUT) == Loaded(unchanged=1)
    newer = BROWNOUT.model_copy(update={"text": "A weak battery."})
    assert added(database, tenant, newer) == Loaded(changed=1)
    with database.transaction(tenant) as tx:
        (found,) = search(tx, Wanted(text="battery", error_codes=("E2107",)))
        stored = tx.execute(
            "select version, valid_until is null as is_current from skald.knowledge_entries"
            " where tenant_id = %s order by version",
            (tenant,),
        ).fetchall()
    assert (found.version, found.text) == (2, "A weak battery.")
    assert [row["is_current"] for row in stored] == [False, True]


def test_what_is_retired_is_not_found_and_may_come_back(database: Database, tenant: UUID) -> None:
    """V-09: a retracted diagnosis is gone from searches; retiring twice is harmless."""
    added(database, tenant, BROWNOUT)
    for was_there in (True, False):
        with database.transaction(tenant) as tx:
            assert retire(tx, "error_code", "E2107") is was_there
    assert titles(database, tenant, text="supply voltage", error_codes=["E2107"]) == []
    assert added(database, tenant, BROWNOUT) == Loaded(added=1)


def test_a_foreign_entry_never_appears(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """V-09, Q-10: the very text of another tenant's entry finds nothing of it."""
    added(database, other_tenant, BROWNOUT)
    assert titles(database, tenant, text=BROWNOUT.text, error_codes=["E2107"]) == []
    added(database, tenant, ROLLBACK)
    assert "Brown-out" not in titles(database, tenant, text=BROWNOUT.text, limit=100)
    with database.transaction(tenant) as tx:
        rows = tx.execute(
            "select tenant_id from skald.search_knowledge("
            " '{}', %s, '{}', null, null, '{}', 100, 1, 1)",
            (BROWNOUT.text,),
        ).fetchall()
    assert {row["tenant_id"] for row in rows} <= {tenant, SHARED}


@pytest.fixture
def shared(migrator_database: Database) -> Iterator[NewEntry]:
    """A shared entry with a code of its own."""
    entry = BROWNOUT.model_copy(update={"key": str(uuid4()), "error_codes": (str(uuid4()),)})
    with migrator_database.transaction(SHARED) as tx:
        add(tx, [entry])
    yield entry
    with migrator_database.transaction(SHARED) as tx:
        retire(tx, entry.kind, entry.key)


def test_everybody_finds_what_is_shared(database: Database, tenant: UUID, shared: NewEntry) -> None:
    """V-09: shared entries are found by a tenant without any of its own."""
    with database.transaction(tenant) as tx:
        (found,) = search(tx, Wanted(text="voltage", error_codes=shared.error_codes))
    assert found.is_shared


@pytest.mark.parametrize("table", ["knowledge_entries", "knowledge_embeddings", "knowledge_spaces"])
def test_only_the_operator_writes_what_is_shared(
    database: Database, shared: NewEntry, tenant: UUID, table: str
) -> None:
    """Q-10: neither a tenant nor who claims to be the shared one changes or deletes shared rows."""
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
    """V-09: of loads at the same moment one adds, the others find it done."""

    def once() -> Loaded:
        with database.transaction(tenant) as tx:
            return load(tx, "codes", [BROWNOUT, ROLLBACK])

    outcomes = together(once, once, once)
    assert sorted(outcome.added for outcome in outcomes) == [0, 0, 2]
    assert sum(outcome.unchanged for outcome in outcomes) == 4


def test_a_load_retires_what_its_library_no_longer_names(database: Database, tenant: UUID) -> None:
    """V-09: a library holds what its last load named; other entries are not its business."""
    own = BROWNOUT.model_copy(update={"key": "mine"})
    added(database, tenant, own)
    with database.transaction(tenant) as tx:
        load(tx, "codes", [BROWNOUT, ROLLBACK])
        assert load(tx, "codes", [ROLLBACK]) == Loaded(unchanged=1, retired=1)
    assert titles(database, tenant, text="voltage", error_codes=["E2107"]) == ["Brown-out"]


class Reversed:
    """Another space of the same length, which would mislead whoever mixed the two."""

    name = "reversed"
    dimensions = embedders_module.Local.dimensions

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [vector[::-1] for vector in embedders_module.Local().embed(texts)]


@pytest.fixture
def second_embedder(monkeypatch: pytest.MonkeyPatch) -> Reversed:
    """An embedder beside the local one, known by its name; bites are of one entry."""
    known = {"local": embedders_module.Local(), "reversed": Reversed()}
    for module in ("spaces", "ranking"):
        monkeypatch.setattr(f"skald.knowledge.{module}.embedder_named", known.__getitem__)
    monkeypatch.setattr(spaces_module, "BITE", 1)
    return Reversed()


def embed_and_die(database: Database, tenant: UUID) -> None:
    with database.transaction(tenant) as tx:
        embed_missing(tx)
        raise KeyboardInterrupt


def test_a_reembedding_goes_on_where_it_stopped_and_switches_at_once(
    database: Database, tenant: UUID, second_embedder: Reversed
) -> None:
    """V-09: searches stay in the old space until the new one is whole; nothing is done twice."""
    added(database, tenant, BROWNOUT, ROLLBACK)
    with database.transaction(tenant) as tx:
        start_reembedding(tx, second_embedder)
    with pytest.raises(KeyboardInterrupt):
        embed_and_die(database, tenant)
    done = []
    while True:
        with database.transaction(tenant) as tx:
            active = [space.embedder for space in spaces(tx) if space.is_active]
            found = search(tx, Wanted(text=BROWNOUT.text), wording=0)
            assert next(one.title for one in found if not one.is_shared) == "Brown-out"
            assert active == ["local"]
            done.append(embed_missing(tx))
        if not done[-1]:
            break
    assert done == [1, 1, 0]
    with database.transaction(tenant) as tx:
        assert [space.embedder for space in spaces(tx)] == ["reversed"]
        found = search(tx, Wanted(text=BROWNOUT.text), wording=0)
    assert next(one.title for one in found if not one.is_shared) == "Brown-out"
