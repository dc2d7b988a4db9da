"""C-06, V-14, Q-10: the parts of an object key."""

from itertools import permutations
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skald.storage.files import NewFile
from skald.storage.names import ObjectName, prefix, tenant_of

TENANT, OWNER = UUID(int=1), UUID(int=2)

plain = st.text(min_size=1, max_size=200).filter(
    lambda t: t.isprintable() and not {"/", "\\"} & set(t) and t.strip(". ") != ""
)


@given(plain)
def test_a_key_says_whose_file_it_is(name: str) -> None:
    """C-06: a key is parsed into the parts that it was built from, with a name in any script."""
    given = ObjectName(context="batches", tenant_id=TENANT, owner_id=OWNER, name=name)
    assert ObjectName.of_key(given.key) == given


@given(st.text(max_size=300))
def test_any_key_is_read_or_refused(key: str) -> None:
    """C-06: no key causes an error; an accepted key has exactly its parts."""
    for candidate in (key, f"batches/{TENANT}/{OWNER}/{key}", f"batches/{TENANT}/{key}"):
        read = ObjectName.of_key(candidate)
        if read is not None:
            assert read.name.isprintable()
            assert "/" not in read.name
            assert read.key == candidate


@pytest.mark.parametrize(
    "name",
    [
        "Ä b+c%20.log",
        "日志 (1).ulg",
        "a&b=c?#.log",
        "🚗.blf",
        "%2e%2e",
        "a" * 200,
        ".hidden",
        "..x",
    ],
)
def test_unusual_names_are_names(name: str) -> None:
    """V-02: a name is printable and has no slash."""
    assert NewFile(name=name, size=1).name == name
    assert ObjectName.of_key(f"batches/{TENANT}/{OWNER}/{name}") is not None


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", " ", ". .", "a/b", "../a", "a\\b", "a\nb", "a\0b", "a\u202eb", "a" * 201],
)
def test_hostile_names_are_refused(name: str) -> None:
    """Q-10: a name that could leave its folder, or forge a log line."""
    with pytest.raises(ValidationError):
        NewFile(name=name, size=1)
    assert ObjectName.of_key(f"batches/{TENANT}/{OWNER}/{name}") is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "///",
        "batches",
        f"batches/{TENANT}",
        f"batches/{TENANT}/{OWNER}",
        f"/{TENANT}/{OWNER}/a",
        f"{TENANT}/{OWNER}/a",
        f"batches/x/{OWNER}/a",
        f"batches/{TENANT}/{OWNER}/deeper/a",
        f"Batches/{TENANT}/{OWNER}/a",
        f"batches/{TENANT.hex}/{OWNER}/a",
    ],
)
def test_other_keys_are_not_ours(key: str) -> None:
    """C-06: a key without context, tenant, owner and file is ignored."""
    assert ObjectName.of_key(key) is None


def test_the_same_name_of_the_same_owner_is_the_same_file() -> None:
    """V-14: the id is derived, so the API and the notification compute the same id."""

    def file_id(owner_id: UUID, name: str) -> UUID:
        read = ObjectName.of_key(f"batches/{TENANT}/{owner_id}/{name}")
        assert read is not None
        return read.file_id

    assert file_id(OWNER, "a.log") == file_id(OWNER, "a.log")
    assert len({file_id(OWNER, "a.log"), file_id(OWNER, "b.log"), file_id(uuid4(), "a.log")}) == 3


def test_two_owners_have_no_prefix_in_common() -> None:
    """Q-10: a list or a deletion below the prefix of one owner finds only its objects."""
    prefixes = [
        prefix(context, tenant_id, owner_id)
        for context in ("batches", "batches_two")
        for tenant_id in (TENANT, OWNER)
        for owner_id in (TENANT, OWNER)
    ]
    for one, other in permutations(prefixes, 2):
        assert not one.startswith(other)


@pytest.mark.parametrize(
    ("key", "tenant"),
    [
        (f"batches/{TENANT}/{OWNER}/a.log", TENANT),
        (f"exams/{TENANT}/deeper/x/y", TENANT),
        (f"{TENANT}/{OWNER}/a.log", OWNER),
        ("batches", None),
        ("batches/x/y", None),
        ("", None),
    ],
)
def test_a_key_names_its_tenant_to_those_who_know_no_context(key: str, tenant: UUID | None) -> None:
    """Q-05: a lost notification is shown to the tenant in its key."""
    assert tenant_of(key) == tenant
