"""G-11: a list returns a page of the client's own rows or a 422, for every parameter."""

from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.support import Client

from skald.postgres import Database, Transaction
from skald.telemetry import logger, spans

HOSTILE = [
    "'; drop table batches.batches; --",
    'name"; select 1; --',
    "name desc, (select 1)",
    "tenant_id",
    "statistics",
    "NAME",
    "náme",
    "\0",
    "--",
    "x" * 400,
]


@pytest.fixture
def batches(api: Client) -> list[str]:
    """Seven batches, oldest first. Several of them have the same name."""
    return [api.open_batch(name=name) for name in ("b", "a", "b", "c", "a", "b", "c")]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that a route executes."""
    seen: list[str] = []
    execute = Transaction.execute

    def noted(self: Transaction, query: Any, parameters: Any = ()) -> Any:
        seen.append(query)
        return execute(self, query, parameters)

    monkeypatch.setattr(Transaction, "execute", noted)
    return seen


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("parameter", ["sort", "fields", "filter"])
def test_hostile_names_never_reach_sql(
    api: Client, statements: list[str], parameter: str, text: str
) -> None:
    """G-11: a name that is no column of the resource is refused before any statement."""
    if parameter == "filter":
        text = f"{text}:eq:x"
    assert api("GET", "/batches").status == 200  # from here on the key is known
    statements.clear()
    answer = api("GET", "/batches", query={parameter: text})
    assert (answer.status, answer.body["code"]) == (422, "invalid_input"), answer.text
    assert not any("batches.batches" in text for text in statements)


@pytest.mark.parametrize(
    "text",
    [
        "created_at:eq:yesterday",
        "status:eq:nonsense",
        "batch_id:eq:1",
        "name:like:a",
        "name:=:a",
        "name",
        "name:eq:\0",
        "name:eq:\ud800",
        "created_at:in:" + ",".join(["2026-01-01"] * 51),
    ],
)
def test_hostile_values_are_refused(api: Client, text: str) -> None:
    """G-11: a value of the wrong type is 422, not an error of the database."""
    assert api("GET", "/batches", query={"filter": text}).status == 422


@pytest.mark.parametrize(
    "text",
    [
        "name:eq:'; drop table batches.batches; --",
        "name:eq:%s",
        "name:eq:%(tenant)s",
        "name:in:%,_",
    ],
)
def test_values_are_only_values(api: Client, batches: list[str], text: str) -> None:
    """G-11: a value may hold any text; it is only compared."""
    assert api("GET", "/batches", query={"filter": text}).body["items"] == []
    assert api("GET", "/batches").body["total"] == len(batches)


@pytest.mark.parametrize("sort", ["", "name", "-name", "status", "-status,name", "total_files"])
def test_paging_is_complete_over_equal_keys(api: Client, batches: list[str], sort: str) -> None:
    """G-11: pages of one, two and three return every row once, though most sort keys are equal."""
    for size in (1, 2, 3):
        seen: list[str] = []
        for page in range(1, 9):
            query = {"sort": sort, "page": str(page), "page_size": str(size)}
            answer = api("GET", "/batches", query=query).body
            assert answer["total"] == len(batches)
            seen += [item["batch_id"] for item in answer["items"]]
        assert sorted(seen) == sorted(batches)


def test_sort_filter_and_fields(api: Client, batches: list[str]) -> None:
    """G-11: together, as a client uses them."""
    query = {"filter": "name:in:a,c", "sort": "name,-created_at", "fields": "batch_id,name"}
    items = api("GET", "/batches", query=query).body["items"]
    assert items == [
        {"batch_id": batches[number], "name": name}
        for number, name in ((4, "a"), (1, "a"), (6, "c"), (3, "c"))
    ]


def test_a_foreign_tenants_rows_are_not_listed(foreign_api: Client, batches: list[str]) -> None:
    """Q-03: and they are not counted."""
    assert foreign_api("GET", "/batches", query={"filter": f"batch_id:eq:{batches[0]}"}).body == {
        "items": [],
        "page": 1,
        "page_size": 20,
        "total": 0,
    }


def test_a_slow_query_is_reported(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """G-11: as a slow span that names the list."""
    slow: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(logger, "warning", lambda text, extra: slow.append((text, extra)))
    monkeypatch.setattr(spans, "SLOW_SECONDS", 0.0)
    api("GET", "/batches")
    assert "list batches.batches" in [extra["span"] for _, extra in slow]


def test_the_newest_batches_come_from_their_index(
    api: Client, admin: Connection[DictRow], database: Database, tenant: UUID, statements: list[str]
) -> None:
    """G-11: the default list does not sort all batches of a tenant."""
    with database.transaction(tenant) as tx:
        tx.execute(
            "insert into batches.batches"
            " (tenant_id, batch_id, name, timeout_seconds, trace_id, created_at)"
            " select %s, gen_random_uuid(), 'x', 60, '', now() - number * interval '1 s'"
            " from generate_series(1, 2000) as number",
            (tenant,),
        )
    admin.execute("analyze batches.batches")
    statements.clear()
    api("GET", "/batches")
    listed = next(text for text in statements if " order by " in text)
    with database.transaction(tenant) as tx:
        plan = str(list(tx.execute("explain " + listed, (tenant, 20, 0))))
    assert "batches_newest" in plan
    assert "Sort Key" not in plan
