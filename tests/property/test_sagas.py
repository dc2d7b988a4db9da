"""Properties of sagas and transactions: results and status together, compensation, overrides."""

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.rows import DictRow
from pydantic import BaseModel

from skald.messaging import outbox
from skald.messaging.envelope import Envelope, derived_id
from skald.postgres import Database, Transaction
from skald.saga import SagaStatus
from skald.saga.coordinator import Saga, Step, run

scores = st.floats(min_value=0, max_value=100)
questions = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


class Broken(Exception):
    """The error of a step in the middle."""


@pytest.fixture(scope="module", autouse=True)
def tables(admin: Connection[DictRow]) -> Iterator[None]:
    """The two tables of the source's persistence rules."""
    admin.execute(
        """
        create schema exams;
        grant usage on schema exams to skald_app;
        create table exams.submissions (
            tenant_id uuid, submission_id uuid, status text not null,
            primary key (tenant_id, submission_id));
        create table exams.grading_results (
            tenant_id uuid, submission_id uuid, question_id text, score double precision not null,
            primary key (tenant_id, submission_id, question_id));
        call skald.isolate_tenants('exams.submissions');
        call skald.isolate_tenants('exams.grading_results');
        grant select, insert, update on all tables in schema exams to skald_app;
        """
    )
    yield
    admin.execute("drop schema exams cascade")


class Grade(BaseModel):
    """The command: a question of a submission, with its score before and after."""

    submission_id: UUID
    question_id: str
    score: float
    previous: float

    @property
    def cache_key(self) -> str:
        return f"hot_cache:grading_result:{self.submission_id}:{self.question_id}"

    @property
    def event(self) -> UUID:
        return derived_id("score.overridden", self.submission_id, self.question_id)


def save_score(tx: Transaction, grade: Grade, score: float) -> None:
    tx.execute(
        """
        insert into exams.grading_results values (%s, %s, %s, %s)
        on conflict (tenant_id, submission_id, question_id) do update set score = excluded.score
        """,
        (tx.tenant_id, grade.submission_id, grade.question_id, score),
    )


def save_status(tx: Transaction, grade: Grade, status: str) -> None:
    tx.execute(
        """
        insert into exams.submissions values (%s, %s, %s)
        on conflict (tenant_id, submission_id) do update set status = excluded.status
        """,
        (tx.tenant_id, grade.submission_id, status),
    )


def stored(database: Database, tenant: UUID, grade: Grade) -> tuple[float | None, str | None]:
    """Return the score and the submission's status as another transaction sees them."""
    with database.transaction(tenant) as tx:
        score = tx.value(
            "select score from exams.grading_results where submission_id = %s and question_id = %s",
            (grade.submission_id, grade.question_id),
        )
        status = tx.value(
            "select status from exams.submissions where submission_id = %s", (grade.submission_id,)
        )
    return score, status


@given(
    question_id=questions,
    score=scores,
    previous=scores,
    was_graded=st.booleans(),
    fails_after=st.sampled_from([None, 0, 1, 2]),
)
def test_results_and_status_are_stored_together(
    question_id: str,
    score: float,
    previous: float,
    was_graded: bool,
    fails_after: int | None,
    database: Database,
    tenant: UUID,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 4: 持久化事务原子性**
    **验证: 需求 2.2, 2.3**
    """
    grade = Grade(submission_id=uuid4(), question_id=question_id, score=score, previous=previous)
    if was_graded:
        with database.transaction(tenant) as tx:
            save_score(tx, grade, previous)
            save_status(tx, grade, "graded")
    before = stored(database, tenant, grade)

    def persist() -> None:
        with database.transaction(tenant) as tx:
            writes = [(save_score, score), (save_status, "reviewed")]
            for number, (save, value) in enumerate(writes):
                if fails_after == number:
                    raise Broken
                save(tx, grade, value)  # type: ignore[operator]
                assert stored(database, tenant, grade) == before, "no reader sees one table alone"
            if fails_after == len(writes):
                raise Broken

    if fails_after is None:
        persist()
        assert stored(database, tenant, grade) == (score, "reviewed")
    else:
        with pytest.raises(Broken):
            persist()
        assert stored(database, tenant, grade) == before


@given(question_id=questions, score=scores, previous=scores, write_fails=st.booleans())
def test_a_failed_write_takes_the_cached_result_back(
    question_id: str,
    score: float,
    previous: float,
    write_fails: bool,
    database: Database,
    valkey: redis.Redis,
    tenant: UUID,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 8: 补偿操作正确性**
    **验证: 需求 4.2**
    """
    grade = Grade(submission_id=uuid4(), question_id=question_id, score=score, previous=previous)
    with database.transaction(tenant) as tx:
        save_score(tx, grade, previous)

    def write(tx: Transaction, grade: Grade) -> dict[str, str]:
        assert valkey.get(grade.cache_key) is not None, "the cache was written first"
        save_score(tx, grade, grade.score)
        if write_fails:
            raise Broken
        return {}

    saga = Saga(
        "store_result",
        Grade,
        [
            Step[Grade](
                "write_cache",
                work=lambda grade: valkey.set(grade.cache_key, json.dumps(grade.score), ex=3600),
                undo=lambda grade: valkey.delete(grade.cache_key),
            ),
            Step[Grade]("write_database", write),
        ],
    )
    status = run(database, saga, tenant, str(uuid4()), grade)
    cached = valkey.get(grade.cache_key)
    if write_fails:
        assert (status, cached) == (SagaStatus.COMPENSATED, None)
        assert stored(database, tenant, grade)[0] == previous
    else:
        assert (status, cached) == (SagaStatus.COMPLETED, json.dumps(score))
        assert stored(database, tenant, grade)[0] == score


@given(
    question_id=questions,
    score=scores,
    previous=scores,
    was_cached=st.booleans(),
    failing=st.sampled_from([None, "update_score", "invalidate_cache", "notify"]),
)
def test_an_override_happens_whole_or_not_at_all(
    question_id: str,
    score: float,
    previous: float,
    was_cached: bool,
    failing: str | None,
    database: Database,
    valkey: redis.Redis,
    tenant: UUID,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 9: 审核覆盖事务原子性**
    **验证: 需求 4.4**
    """
    grade = Grade(submission_id=uuid4(), question_id=question_id, score=score, previous=previous)
    with database.transaction(tenant) as tx:
        save_score(tx, grade, previous)
    if was_cached:
        valkey.set(grade.cache_key, json.dumps(previous))

    status = run(database, _override(valkey, failing), tenant, str(uuid4()), grade)

    with database.transaction(tenant) as tx:
        event = outbox.find(tx, grade.event)
    overridden = stored(database, tenant, grade)[0] == score
    cached = valkey.get(grade.cache_key)
    if failing is None:
        assert (status, overridden, cached) == (SagaStatus.COMPLETED, True, None)
        assert event is not None
    else:
        assert status is SagaStatus.COMPENSATED
        assert stored(database, tenant, grade)[0] == previous
        assert event is None
        assert cached in (None, json.dumps(previous)), "the cache agrees with PostgreSQL"


def _override(valkey: redis.Redis, failing: str | None) -> Saga[Grade]:
    """A reviewer's override: score, cache and notification, each with its compensation."""

    def fail_at(step: str) -> None:
        if step == failing:
            raise Broken

    def update(tx: Transaction, grade: Grade) -> dict[str, str]:
        save_score(tx, grade, grade.score)
        fail_at("update_score")
        return {}

    def invalidate(grade: Grade) -> None:
        valkey.delete(grade.cache_key)
        fail_at("invalidate_cache")

    def notify(tx: Transaction, grade: Grade) -> dict[str, str]:
        outbox.publish(
            tx,
            Envelope(
                event_id=grade.event,
                event_type="score.overridden",
                tenant_id=tx.tenant_id,
                target_id=str(grade.submission_id),
                target_type="submission",
            ),
        )
        fail_at("notify")
        return {}

    def restore(tx: Transaction, grade: Grade) -> None:
        save_score(tx, grade, grade.previous)

    return Saga(
        "override_score",
        Grade,
        [
            Step[Grade]("update_score", update, restore),
            Step[Grade]("invalidate_cache", work=invalidate),
            Step[Grade]("notify", notify),
        ],
    )
