"""Properties 12 and 13: pages and fields of lists, against PostgreSQL's own rows."""

from datetime import UTC, datetime, timedelta
from operator import attrgetter, eq, ge, gt, le, lt, ne
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from batches import repository
from batches.domain import Batch
from skald.listing import ListQuery
from skald.postgres import Database, Transaction

OPERATORS = {"eq": eq, "ne": ne, "lt": lt, "le": le, "gt": gt, "ge": ge}
SORTS = ["name", "total_files", "created_at", "status"]
START = datetime(2026, 1, 1, tzinfo=UTC)

rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 3)), max_size=12
)
sorts = st.lists(
    st.tuples(st.sampled_from(SORTS), st.booleans()), max_size=3, unique_by=lambda term: term[0]
)
filters = st.one_of(
    st.none(),
    st.tuples(st.just("name"), st.sampled_from(sorted(OPERATORS)), st.sampled_from("abc")),
    st.tuples(
        st.just("created_at"),
        st.sampled_from(sorted(OPERATORS)),
        st.integers(0, 3).map(lambda days: START + timedelta(days=days)),
    ),
)


def fill(tx: Transaction, given_rows: list[tuple[str, int, int]]) -> None:
    for name, files, days in given_rows:
        tx.later(
            "insert into batches.batches (tenant_id, batch_id, name, total_files, created_at,"
            " timeout_seconds, trace_id) values (%s, %s, %s, %s, %s, 60, '')",
            (tx.tenant_id, uuid4(), name, files, START + timedelta(days=days)),
        )


@given(given_rows=rows, sort=sorts, condition=filters, page_size=st.integers(1, 5))
def test_pages_are_sorted_filtered_and_complete(
    database: Database,
    given_rows: list[tuple[str, int, int]],
    sort: list[tuple[str, bool]],
    condition: tuple[str, str, Any] | None,
    page_size: int,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 12: 分页查询结果正确性**
    **验证: 需求 7.2**
    """
    query = ListQuery(
        page_size=page_size,
        sort=",".join(f"-{name}" if down else name for name, down in sort),
        filter=[f"{condition[0]}:{condition[1]}:{condition[2]}"] if condition else [],
    )
    with database.transaction(uuid4()) as tx:
        fill(tx, given_rows)
        stored = tx.all(Batch, "select * from batches.batches")
        expected = [
            batch
            for batch in stored
            if not condition or OPERATORS[condition[1]](getattr(batch, condition[0]), condition[2])
        ]
        got: list[Any] = []
        for number in range(1, len(expected) // page_size + 2):
            page = repository.list_batches(tx, query.model_copy(update={"page": number}))
            assert len(page.items) <= page_size
            assert page.total == len(expected)
            got += page.items

    key = attrgetter("batch_id")
    assert sorted(got, key=key) == sorted(expected, key=key)
    reference = list(got)
    for name, down in reversed(sort):
        reference.sort(key=attrgetter(name), reverse=down)
    assert got == reference  # the sort is stable


@given(fields=st.lists(st.sampled_from(list(Batch.model_fields)), min_size=1))
def test_only_the_fields_asked_for_come(database: Database, fields: list[str]) -> None:
    """
    **功能: architecture-deep-integration, 属性 13: 字段选择查询正确性**
    **验证: 需求 7.3**
    """
    with database.transaction(uuid4()) as tx:
        fill(tx, [("a", 0, 0), ("b", 1, 1)])
        page = repository.list_batches(tx, ListQuery(fields=",".join(fields), sort="name"))
        whole = repository.list_batches(tx, ListQuery(sort="name"))
    items: list[Any] = list(page.items)
    assert [set(item) for item in items] == [set(fields)] * 2
    for item, batch in zip(items, whole.items, strict=True):
        assert all(item[name] == getattr(batch, name) for name in fields)
