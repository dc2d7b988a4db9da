"""G-05, G-06, G-10, G-11, G-15: rubrics, as API Gateway calls them."""

from functools import partial
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree

import pytest
import redis
from tests.integration.grading import RUBRIC, GradingClient, path, rubric
from tests.integration.support import together

import skald.valkey
from grading import api as routes
from grading.domain import RubricContent
from skald.config import settings
from skald.errors import Conflict
from skald.postgres import Database


@pytest.fixture
def grading(database: Database, api_key: str) -> GradingClient:
    return GradingClient(api_key)


@pytest.fixture
def stranger(database: Database, other_api_key: str) -> GradingClient:
    return GradingClient(other_api_key)


def put(api: GradingClient, expected: int, **fields: object) -> int:
    query = {"expected_version": str(expected)}
    return api("PUT", path(), rubric(**fields), query=query).status


def events_of(database: Database, tenant: UUID) -> list[str]:
    with database.transaction(tenant) as tx:
        rows = tx.execute("select event_type from skald.outbox order by position")
        return [row["event_type"] for row in rows]


def test_a_new_version_supersedes_and_the_old_stays_readable(
    grading: GradingClient, database: Database, tenant: UUID
) -> None:
    """G-15: versions count from 1, and each publishes an event."""
    first = grading("POST", path(), RUBRIC)
    assert (first.status, first.body["version"]) == (201, 1), first.text
    assert put(grading, 1, question="What is a switch?") == 200
    assert grading("GET", path()).body["version"] == 2
    assert grading("GET", path(), query={"version": "1"}).body == first.body
    assert events_of(database, tenant) == ["rubric.created", "rubric.changed"]


def test_what_is_there_or_superseded_is_a_conflict(
    grading: GradingClient, database: Database, tenant: UUID
) -> None:
    """G-15: no version is overwritten by mistake, and a refusal publishes no event."""
    assert grading("POST", path(), RUBRIC).status == 201
    assert grading("POST", path(), RUBRIC).status == 409
    assert put(grading, 1) == 200
    assert put(grading, 1) == 409
    assert put(grading, 3) == 409
    assert events_of(database, tenant) == ["rubric.created", "rubric.changed"]


def test_a_repeated_request_is_replayed(grading: GradingClient) -> None:
    """W-03: the Idempotency-Key works as for batches."""
    key = {"Idempotency-Key": "once"}
    first, again = (grading("POST", path(), RUBRIC, headers=key) for _ in range(2))
    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body
    assert grading("POST", path(), rubric(question="?"), headers=key).status == 422


def test_of_racing_writers_one_wins_and_the_cache_holds_its_hash(
    grading: GradingClient, database: Database, valkey: redis.Redis, tenant: UUID
) -> None:
    """G-06: eight transactions expect the same version; row, cache and answer agree."""
    assert grading("POST", path(), RUBRIC).status == 201

    def write(number: int) -> bool:
        new = RubricContent.model_validate(rubric(question=f"Question {number}?"))
        try:
            with database.transaction(tenant) as tx:
                routes.supersede_rubric("networks", "1.1", new, 1, tx)
        except Conflict:
            return False
        return True

    assert sum(together(*[partial(write, number) for number in range(8)])) == 1
    newest = grading("GET", path()).body
    assert newest["version"] == 2
    assert valkey.get(f"rubric_hash:{tenant}:networks:1.1") == f'"{newest["hash"]}"'
    assert grading("GET", path() + "/hash").body == {"hash": newest["hash"]}


def test_a_hash_read_before_the_commit_is_not_kept(
    grading: GradingClient, database: Database, tenant: UUID
) -> None:
    """G-06: while a new version commits, readers get the old hash and do not store it."""
    old = grading("POST", path(), RUBRIC).body["hash"]
    new = RubricContent.model_validate(rubric(question="What is a switch?"))
    with database.transaction(tenant) as tx:
        version = routes.supersede_rubric("networks", "1.1", new, 1, tx)
        assert grading("GET", path() + "/hash").body == {"hash": old}
    assert grading("GET", path() + "/hash").body == {"hash": version.hash}


def test_a_writer_that_dies_after_its_commit_leaves_no_stale_hash(
    grading: GradingClient, database: Database, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-06: the entry is deleted before the commit, so no reader finds the old hash."""
    assert grading("POST", path(), RUBRIC).status == 201
    new = RubricContent.model_validate(rubric(question="What is a switch?"))
    with database.transaction(tenant) as tx:
        monkeypatch.setattr(tx, "committed", lambda: None)
        version = routes.supersede_rubric("networks", "1.1", new, 1, tx)
    assert grading("GET", path() + "/hash").body == {"hash": version.hash}


def test_a_stranger_finds_nothing(grading: GradingClient, stranger: GradingClient) -> None:
    """P-07: also not in the cache, whose key names the tenant."""
    assert grading("POST", path(), RUBRIC).status == 201
    assert grading("GET", path() + "/hash").status == 200
    assert stranger("GET", path()).status == 404
    assert stranger("GET", path() + "/hash").status == 404
    assert put(stranger, 1) == 404
    assert stranger("GET", "/exams/networks/rubrics").body["total"] == 0
    assert stranger("POST", path(), RUBRIC).status == 201  # an exam of the same name


def test_an_exam_lists_its_newest_rubrics(grading: GradingClient) -> None:
    """G-11: one row per question, for this exam only."""
    for question in ("1.1", "1.2"):
        assert grading("POST", path(question), RUBRIC).status == 201
    assert grading("POST", path(exam="algebra"), RUBRIC).status == 201
    assert put(grading, 1) == 200
    items = grading("GET", "/exams/networks/rubrics", query={"sort": "-question_id"}).body["items"]
    assert [(item["question_id"], item["version"]) for item in items] == [("1.2", 1), ("1.1", 2)]


def test_without_redis_postgresql_answers(
    grading: GradingClient, no_valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-06: it is only slower."""
    monkeypatch.setenv("REDIS_DSN", no_valkey)
    settings.cache_clear()
    skald.valkey.valkey.cache_clear()
    try:
        created = grading("POST", path(), RUBRIC)
        assert created.status == 201
        assert grading("GET", path() + "/hash").body == {"hash": created.body["hash"]}
    finally:
        monkeypatch.undo()
        settings.cache_clear()
        skald.valkey.valkey.cache_clear()


def test_the_questions_of_a_public_data_set_become_rubrics(
    grading: GradingClient, real_data: Path
) -> None:
    """G-15: SAF's questions with their reference answers."""
    questions = sorted((real_data / "grading/saf/training/english").glob("*.xml"))
    assert questions
    for file in questions:
        root = ElementTree.parse(file).getroot()  # noqa: S314  # a data set of ours
        criterion = {"name": "whole answer", "points": 1}
        answers = [answer.text for answer in root.iter("referenceAnswer")]
        body = {
            "question": root.findtext("questionText"),
            "criteria": [criterion],
            "reference_answers": answers,
        }
        created = grading("POST", path(file.stem), body)
        assert created.status == 201, created.text
    assert grading("GET", "/exams/networks/rubrics").body["total"] == len(questions)
