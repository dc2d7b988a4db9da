"""C-04: a released migration never changes; the next one expands, or removes what is unused."""

from collections import Counter

from tests import migrations

LIST = f"`sha256sum *.sql > {migrations.RELEASED}` in its folder, as a part of a release only"


def test_a_released_migration_never_changes() -> None:
    """C-04: a database that has run it would not get the change; write a new migration."""
    now = {
        file: migrations.digest(file) if file.exists() else None for file in migrations.released()
    }
    assert now == migrations.released(), f"the list is made by {LIST}"


def test_a_migration_has_a_number_and_a_name_of_its_own() -> None:
    """C-04: the log of a database has the name of a migration without its folder."""
    names = Counter(file.stem for file in migrations.files())
    assert [name for name, count in names.items() if count > 1] == []
    assert [file.name for file in migrations.files() if not file.name[:4].isdecimal()] == []


def test_what_is_contracted_was_left_unused_by_an_earlier_release() -> None:
    """C-04: functions of the last release still run while the migration removes something."""
    released = {file.stem for file in migrations.released()}
    declared = {
        (file.name, since)
        for file in migrations.unreleased()
        for since in migrations.contracts(file.read_text()).values()
    }
    assert {since for _, since in declared} <= released, declared


def test_contracts_are_read() -> None:
    """C-04: a table, a column or a function, and the migration that replaced it."""
    text = """-- Routes have a table.
-- depends: 0011.routes
-- contract: skald.outbox.route since 0011.routes
-- contract: skald.replay(bigint,text) since 0012.replay
alter table skald.outbox drop column route;
"""
    assert migrations.contracts(text) == {
        "skald.outbox.route": "0011.routes",
        "skald.replay(bigint,text)": "0012.replay",
    }
