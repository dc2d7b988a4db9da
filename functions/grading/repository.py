"""All SQL of the grading context."""

from typing import Any

from psycopg.types.json import Json

from grading.domain import Rubric, RubricContent, RubricSummary, rubric_hash
from skald.listing import ListQuery, Page, Resource
from skald.postgres import Transaction

_SUMMARIES = Resource(
    RubricSummary,
    ("grading", "newest_rubrics"),
    key="question_id",
    sort="question_id",
    sortable=["question_id", "version", "created_at"],
    filterable=["exam_id", "question_id", "version", "hash", "created_at"],
)


def create_rubric(
    tx: Transaction, exam_id: str, question_id: str, content: RubricContent
) -> Rubric | None:
    """Store the first version of a rubric; None when the question has one."""
    return tx.one(
        Rubric,
        """
        insert into grading.rubrics (tenant_id, exam_id, question_id, version, hash, content)
        values (%s, %s, %s, 1, %s, %s)
        on conflict do nothing
        returning *
        """,
        (tx.tenant_id, exam_id, question_id, rubric_hash(content), Json(content.model_dump())),
    )


def supersede_rubric(
    tx: Transaction, exam_id: str, question_id: str, expected: int, content: RubricContent
) -> Rubric | None:
    """Store the version after `expected`; None when that is not the newest.

    If two writers expect the same version, the second waits for the first on the primary key.
    """
    return tx.one(
        Rubric,
        """
        insert into grading.rubrics (tenant_id, exam_id, question_id, version, hash, content)
        select tenant_id, exam_id, question_id, version + 1, %s, %s
        from grading.rubrics
        where tenant_id = %s and exam_id = %s and question_id = %s and version = %s
        on conflict do nothing
        returning *
        """,
        (
            rubric_hash(content),
            Json(content.model_dump()),
            tx.tenant_id,
            exam_id,
            question_id,
            expected,
        ),
    )


def find_rubric(
    tx: Transaction, exam_id: str, question_id: str, version: int | None = None
) -> Rubric | None:
    """Return a version of a rubric, the newest if `version` is None."""
    return tx.one(
        Rubric,
        """
        select exam_id, question_id, version, hash, content, created_at
        from grading.rubrics
        where tenant_id = %s and exam_id = %s and question_id = %s
          and version = coalesce(%s, version)
        order by version desc
        limit 1
        """,
        (tx.tenant_id, exam_id, question_id, version),
    )


def list_rubrics(
    tx: Transaction, exam_id: str, query: ListQuery
) -> Page[RubricSummary | dict[str, Any]]:
    """Return one page of an exam's newest rubrics."""
    return _SUMMARIES.page(tx, query.also("exam_id", exam_id))
