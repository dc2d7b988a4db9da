"""V-09, Q-10: the knowledge base over HTTP: a tenant writes its entries and reads shared ones."""

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote
from uuid import uuid4

import pytest
from tests.conftest import Context
from tests.integration.knowledge_base import ENTRY, KnowledgeClient
from tests.integration.model_endpoint import ModelEndpoint, Reply, always, model_endpoint

from knowledge.schedules import embed_waiting
from skald.config import settings
from skald.knowledge import ranking
from skald.knowledge.embedders import OpenAiEmbedder, embedder_named
from skald.knowledge.entries import NewEntry
from skald.knowledge.store import SHARED, add, retire
from skald.postgres import Database

PATH = "/knowledge/error_code/E2107"


@pytest.fixture
def knowledge(database: Database, api_key: str) -> KnowledgeClient:
    return KnowledgeClient(api_key)


@pytest.fixture
def stranger(database: Database, other_api_key: str) -> KnowledgeClient:
    return KnowledgeClient(other_api_key)


@pytest.fixture
def shared(migrator_database: Database) -> Iterator[NewEntry]:
    """A shared entry with its own name and code."""
    name = uuid4().hex
    entry = NewEntry(kind="note", key=name, title="Shared", text="All.", error_codes=(name,))
    with migrator_database.transaction(SHARED) as tx:
        add(tx, [entry])
    yield entry
    with migrator_database.transaction(SHARED) as tx:
        retire(tx, entry.kind, entry.key)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelEndpoint]:
    """A remote embedder, chosen by the setting."""
    with model_endpoint() as running:
        monkeypatch.setenv("EMBEDDER", running.setting)
        settings.cache_clear()
        embedder = embedder_named(running.setting)
        assert isinstance(embedder, OpenAiEmbedder)
        with closing(embedder):
            yield running
    settings.cache_clear()


def found(api: KnowledgeClient, **query: str) -> list[str]:
    answer = api("GET", "/knowledge/search", query={"q": "supply voltage", **query})
    assert answer.status == 200, answer.text
    return [f"{one['title']} {one['version']}" for one in answer.body]


def test_an_entry_and_its_versions(knowledge: KnowledgeClient) -> None:
    """V-09: a put supersedes, the same put again does not, a retired entry stays readable."""
    for _ in range(2):
        assert knowledge("PUT", PATH, ENTRY).status == 200
    answer = knowledge("PUT", PATH, ENTRY | {"text": "The supply voltage: a weak battery."})
    assert [one["version"] for one in answer.body["versions"]] == [2, 1]
    assert found(knowledge, error_code="E2107") == ["Brown-out 2"]
    assert knowledge("DELETE", PATH).status == 200
    assert found(knowledge, error_code="E2107") == []
    assert knowledge("DELETE", PATH).status == 404
    entry = knowledge("GET", PATH).body
    assert (entry["is_current"], len(entry["versions"])) == (False, 2)


def test_many_entries_at_once(knowledge: KnowledgeClient) -> None:
    """V-09: all are stored or none; the answer names those that existed already."""
    first, second = ({"kind": "note", "key": key} | ENTRY for key in ("a", "b"))
    answer = knowledge("POST", "/knowledge", {"entries": [first]})
    assert (answer.status, answer.body["added"]) == (200, 1)
    entries = [first, second | {"title": ""}]
    assert knowledge("POST", "/knowledge", {"entries": entries}).status == 422
    assert knowledge("GET", "/knowledge/note/b").status == 404
    entries = [first, first | {"title": "Other"}, second]
    answer = knowledge("POST", "/knowledge", {"entries": entries})
    assert answer.body == {"added": 1, "changed": 1, "unchanged": 1, "retired": 0}
    assert sorted(found(knowledge, error_code="E2107")) == ["Brown-out 1", "Other 2"]


@pytest.mark.parametrize("key", ["power/brownout", "Süd 50 %", "a?b#c", "%2F"])
def test_any_name_is_a_path_once_it_is_quoted(knowledge: KnowledgeClient, key: str) -> None:
    """V-09: every name can be read and retired, also the keys of the library with a slash."""
    path = f"/knowledge/note/{quote(key, safe='')}"
    assert knowledge("PUT", path, ENTRY).body["key"] == key
    assert knowledge("GET", path).body["key"] == key
    assert knowledge("DELETE", path).status == 200
    assert found(knowledge, error_code="E2107") == []


@pytest.mark.parametrize(
    ("filters", "is_found"),
    [
        ({"platform": "J7", "firmware": "v2.4.1", "kind": "error_code"}, True),
        ({"platform": "J6"}, False),
        ({"firmware": "v3.0"}, False),
        ({"kind": "note"}, False),
    ],
)
def test_a_search_keeps_to_its_filters(
    knowledge: KnowledgeClient, filters: dict[str, str], is_found: bool
) -> None:
    """V-09: code, platform, firmware and kind."""
    assert knowledge("PUT", PATH, ENTRY).status == 200
    expected = ["Brown-out 1"] if is_found else []
    assert found(knowledge, error_code="E2107", **filters) == expected


def test_a_stranger_finds_nothing(knowledge: KnowledgeClient, stranger: KnowledgeClient) -> None:
    """Q-10: neither by list nor by search nor by name; its own entry stays its own."""
    assert knowledge("PUT", PATH, ENTRY).status == 200
    assert stranger("GET", PATH).status == 404
    assert stranger("DELETE", PATH).status == 404
    assert found(stranger, error_code="E2107") == []
    listed = stranger("GET", "/knowledge", query={"filter": "key:eq:E2107"}).body
    assert listed["total"] == 0
    assert stranger("PUT", PATH, ENTRY | {"title": "Other"}).body["versions"][0]["version"] == 1
    assert found(knowledge, error_code="E2107") == ["Brown-out 1"]


def test_what_is_shared_is_read_and_not_written(
    knowledge: KnowledgeClient, shared: NewEntry
) -> None:
    """V-09, Q-10: a tenant's entry and the shared entry of the same name both exist."""
    path = f"/knowledge/{shared.kind}/{shared.key}"
    assert knowledge("GET", path).body["is_shared"]
    assert knowledge("DELETE", path).status == 404
    listed = knowledge("GET", "/knowledge", query={"filter": f"key:eq:{shared.key}"}).body
    assert [one["is_shared"] for one in listed["items"]] == [True]
    assert knowledge("PUT", path, ENTRY | {"error_codes": [shared.key]}).status == 200
    assert not knowledge("GET", path).body["is_shared"]
    assert sorted(found(knowledge, error_code=shared.key)) == ["Brown-out 1", "Shared 1"]


def test_a_remote_embedder_is_asked_by_the_schedule(
    knowledge: KnowledgeClient,
    endpoint: ModelEndpoint,
    database: Database,
    relay_database: Database,
) -> None:
    """V-09: a put calls no embedder; words find the entry at once, meaning after the next run."""
    assert knowledge("PUT", PATH, ENTRY).status == 200
    assert endpoint.asked == []
    assert found(knowledge, error_code="E2107") == ["Brown-out 1"]
    assert embed_waiting({}, Context())["embedded"] >= 1
    (source,) = knowledge(
        "GET", "/knowledge/search", query={"q": "supply voltage", "error_code": "E2107"}
    ).body
    assert source["found_by"] == ["meaning", "words"]


def test_a_reembedding_shows_its_progress(
    knowledge: KnowledgeClient, endpoint: ModelEndpoint
) -> None:
    """V-09: the new space is filled beside the active one, which it then replaces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDDER", "local")
        settings.cache_clear()
        assert knowledge("PUT", PATH, ENTRY).status == 200
    settings.cache_clear()
    answer = knowledge("POST", "/knowledge/reembed", {"embedder": endpoint.setting})
    assert answer.status == 202, answer.text
    figures = [(one["is_active"], one["embedded"], one["entries"]) for one in answer.body]
    assert figures == [(True, 1, 1), (False, 0, 1)]
    embed_waiting({}, Context())
    (space,) = knowledge("GET", "/knowledge/spaces").body
    assert (space["embedder"], space["is_active"]) == (endpoint.setting, True)


def test_no_tenant_chooses_its_own_endpoint(
    knowledge: KnowledgeClient, endpoint: ModelEndpoint
) -> None:
    """P-07: functions call only endpoints of the operator, never one that a tenant names."""
    elsewhere = endpoint.setting.replace("fake", "other")
    answer = knowledge("POST", "/knowledge/reembed", {"embedder": elsewhere})
    assert answer.status == 422
    assert endpoint.asked == []


@pytest.mark.parametrize(("status", "expected"), [(503, 503), (401, 422)])
def test_an_embedder_that_does_not_answer(
    knowledge: KnowledgeClient, endpoint: ModelEndpoint, status: int, expected: int
) -> None:
    """V-13: an unreachable embedder is 503, a refusal is 422; no change of the space begins."""
    endpoint.script = always(Reply(status=status))
    answer = knowledge("POST", "/knowledge/reembed", {"embedder": endpoint.setting})
    assert answer.status == expected
    assert knowledge("GET", "/knowledge/spaces").body == []


@pytest.mark.parametrize("reply", [Reply(status=503), Reply(status=401), Reply(seconds=2.0)])
def test_a_search_answers_without_its_embedder(
    knowledge: KnowledgeClient,
    endpoint: ModelEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    reply: Reply,
) -> None:
    """V-13: without an answer of the embedder the search uses words, and the answer says so."""
    monkeypatch.setattr(ranking, "QUESTION_SECONDS", 0.5)
    assert knowledge("PUT", PATH, ENTRY).status == 200
    embed_waiting({}, Context())
    endpoint.script = always(reply)
    query = {"q": "supply voltage", "error_code": "E2107"}
    answer = knowledge("GET", "/knowledge/search", query=query)
    assert [source["found_by"] for source in answer.body] == [["words"]]


def test_one_tenant_that_cannot_be_embedded_does_not_keep_others_from_it(
    knowledge: KnowledgeClient,
    stranger: KnowledgeClient,
    endpoint: ModelEndpoint,
) -> None:
    """V-09: the failed entries wait for the next run; this run embeds the others."""
    assert knowledge("PUT", PATH, ENTRY | {"title": "Refused"}).status == 200
    assert stranger("PUT", PATH, ENTRY).status == 200
    endpoint.script = lambda text: Reply(status=400 if text.startswith("Refused") else 200)
    embed_waiting({}, Context())
    assert [space["embedded"] for space in stranger("GET", "/knowledge/spaces").body] == [1]
    assert [space["embedded"] for space in knowledge("GET", "/knowledge/spaces").body] == [0]
