"""V-09: the library of error codes that a deployment loads for every tenant."""

from uuid import UUID

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from psycopg import errors
from tests.integration.conftest import Servers

import operations.library as library_module
from batches.analysis.rules import RULES, Rule, rule_for
from fleet.catalogue import CATALOGUE
from fleet.wordings import KNOWN, UNSEEN, Wordings
from operations.library import NAME, entries, load_library
from operations.migrations import migrate
from skald.config import Settings
from skald.knowledge.entries import Loaded, NewEntry, Wanted
from skald.knowledge.ranking import search
from skald.knowledge.spaces import spaces_of
from skald.knowledge.store import SHARED, add, load, retire
from skald.postgres import Database, Transaction

SUBJECT = {entry.title: entry.key.partition("/")[0] for entry in entries()}


def subjects(tx: Transaction, text: str, *codes: str) -> set[str]:
    """Return the subjects of the first three shared entries."""
    wanted = Wanted(text=text, error_codes=codes, kinds=("error_code",), limit=3)
    return {SUBJECT[one.title] for one in search(tx.call, wanted)}


def test_loading_again_changes_nothing(migrator_database: Database, library: Loaded) -> None:
    """V-09: the first load adds and embeds all entries, the second changes nothing."""
    assert library == Loaded(added=len(entries()))
    assert load_library(migrator_database) == Loaded(unchanged=len(entries()))
    with migrator_database.transaction(SHARED) as tx:
        assert [space.embedder for space in spaces_of(tx)] == ["local"]


def test_a_changed_entry_supersedes_and_a_dropped_one_is_retired(
    migrator_database: Database,
    database: Database,
    tenant: UUID,
    library: Loaded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """V-09: after a deployment with another library only its texts are found."""
    changed, dropped, *rest = entries()
    newer = changed.model_copy(update={"text": "Told anew."})
    monkeypatch.setattr(library_module, "entries", lambda: [newer, *rest])
    assert load_library(migrator_database) == Loaded(changed=1, retired=1, unchanged=len(rest))
    with database.transaction(tenant) as tx:
        assert "Told anew." in texts(tx, changed)
        assert changed.text not in texts(tx, changed)
        assert dropped.text not in texts(tx, dropped)


def texts(tx: Transaction, entry: NewEntry) -> list[str]:
    return [one.text for one in search(tx.call, Wanted(text=entry.title, limit=100))]


def test_the_migration_loads_it(
    servers: Servers,
    migrator_database: Database,
    library: Loaded,
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """V-09: the function that a deployment invokes reports the result for schema and library."""
    monkeypatch.setenv("POSTGRES_DSN", servers.migrator_dsn)
    monkeypatch.setattr("operations.migrations.settings", Settings)
    monkeypatch.setattr("operations.migrations.database", lambda: migrator_database)
    with migrator_database.transaction(SHARED) as tx:
        retire(tx, "error_code", entries()[0].key)
    for did in (Loaded(added=1, unchanged=len(entries()) - 1), Loaded(unchanged=len(entries()))):
        assert migrate({}, LambdaContext()) == {"applied": [], "library": did.model_dump()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_every_rule_is_explained(
    database: Database, tenant: UUID, library: Loaded, rule: Rule
) -> None:
    """V-09: each rule has entries; a search for its words finds one in the first three."""
    own = [entry for entry in entries() if entry.key.startswith(f"{rule.key}/")]
    assert any(rule_for(code) is rule for entry in own for code in entry.error_codes)
    with database.transaction(tenant) as tx:
        assert rule.key in subjects(tx, f"{rule.title}. {rule.root_cause}")
        for entry in own:
            assert subjects(tx, rule.title, entry.error_codes[0]) == {rule.key}


def test_planted_faults_are_found_by_code_and_by_words(
    database: Database, tenant: UUID, library: Loaded
) -> None:
    """V-09: each line of the sample fleet finds its cause, with its code and without."""
    with database.transaction(tenant) as tx:
        for fault in CATALOGUE:
            for line in fault.lines:
                assert subjects(tx, line.text, line.code) == {fault.rule}, line
                assert fault.rule in subjects(tx, line.text), line


@pytest.mark.parametrize(("wordings", "floor"), [(KNOWN, 0.95), (UNSEEN, 0.9)])
def test_other_makers_words_find_the_cause(
    database: Database, tenant: UUID, library: Loaded, wordings: Wordings, floor: float
) -> None:
    """V-09: a minimum share of lines from other makers has the cause in the first three entries."""
    with database.transaction(tenant) as tx:
        hits = [
            rule in subjects(tx, f"{line.process}: {line.text}".replace("{n}", "4"))
            for rule, dialects in wordings.faults.items()
            for dialect in dialects
            for line in dialect
        ]
    assert sum(hits) / len(hits) >= floor


def test_tenants_see_it_and_cannot_write_it(
    database: Database, tenant: UUID, other_tenant: UUID, library: Loaded
) -> None:
    """V-09, Q-10: every tenant finds the library; only the migrator may load it."""
    for reader in (tenant, other_tenant):
        with database.transaction(reader) as tx:
            found = search(tx.call, Wanted(text="brown-out", error_codes=("E2107",)))
        assert [one.is_shared for one in found] == [True]
    with database.transaction(SHARED) as tx:
        assert load(tx, NAME, []).retired == library.added  # would retire all that it sees
    with pytest.raises(errors.InsufficientPrivilege), database.transaction(SHARED) as tx:
        add(tx, [NewEntry(key="mine", kind="error_code", title="Mine", text="Mine.")])
    with database.transaction(tenant) as tx:
        assert "power" in subjects(tx, "brown-out", "E2107")  # and retires none
