"""HTTP routes of rubrics (G-05, G-06, G-11, G-15)."""

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Path, Query

from grading import repository
from grading.domain import (
    Rubric,
    RubricContent,
    RubricHash,
    RubricSummary,
    hash_key,
    rubric_event,
)
from skald.entrypoints.http import Api, Caller, Listed, Tx
from skald.errors import Conflict, NotFound
from skald.listing import Page
from skald.messaging import outbox
from skald.postgres import Transaction, database
from skald.valkey.cache import cache

HASH_CACHE_SECONDS = 7 * 24 * 3600
MAX_VERSION = 2**31 - 2
_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

ExamId = Annotated[str, Path(pattern=_ID, max_length=80, description="The exam.")]
QuestionId = Annotated[str, Path(pattern=_ID, max_length=80, description="The question.")]
RUBRIC = "/exams/<exam_id>/questions/<question_id>/rubric"

api = Api()
handler = api.handler


@api.route("POST", RUBRIC, status=201, problems=(409,), idempotent="header", rows_first=True)
def create_rubric(
    exam_id: ExamId,
    question_id: QuestionId,
    new: RubricContent,
    tx: Tx,
) -> Rubric:
    """Create the first rubric of a question. 409 when it has one."""
    rubric = repository.create_rubric(tx, exam_id, question_id, new)
    if rubric is None:
        raise Conflict("the question has a rubric; use PUT to store a new version")
    return _announced(tx, rubric)


@api.route("PUT", RUBRIC, problems=(409,))
def supersede_rubric(
    exam_id: ExamId,
    question_id: QuestionId,
    new: RubricContent,
    expected: Annotated[
        int,
        Query(
            alias="expected_version",
            ge=1,
            le=MAX_VERSION,
            description="The newest version you know.",
        ),
    ],
    tx: Tx,
) -> Rubric:
    """Store the version after the expected one. 409 when the expected one is not the newest."""
    rubric = repository.supersede_rubric(tx, exam_id, question_id, expected, new)
    if rubric is None:
        newest = _found(repository.find_rubric(tx, exam_id, question_id))
        raise Conflict(f"the newest version is {newest.version}", newest_version=newest.version)
    return _announced(tx, rubric)


@api.route("GET", RUBRIC)
def get_rubric(
    exam_id: ExamId,
    question_id: QuestionId,
    tx: Tx,
    version: Annotated[
        int | None, Query(ge=1, le=MAX_VERSION, description="A version; without it, the newest.")
    ] = None,
) -> Rubric:
    """Get one version of a rubric, the newest by default."""
    return _found(repository.find_rubric(tx, exam_id, question_id, version))


@api.route("GET", RUBRIC + "/hash")
def get_rubric_hash(
    exam_id: ExamId,
    question_id: QuestionId,
    caller: Caller,
) -> RubricHash:
    """Get the hash of the newest rubric of a question."""

    def load() -> str:
        with database().transaction(caller.tenant_id) as tx:
            return _found(repository.find_rubric(tx, exam_id, question_id)).hash

    key = hash_key(caller.tenant_id, exam_id, question_id)
    return RubricHash(hash=cache().get_or_load(key, load, HASH_CACHE_SECONDS))


@api.route("GET", "/exams/<exam_id>/rubrics")
def list_rubrics(exam_id: ExamId, tx: Tx, query: Listed) -> Page[RubricSummary | dict[str, Any]]:
    """List the newest rubric of each question of an exam; an unknown exam has none."""
    return repository.list_rubrics(tx, exam_id, query)


def _announced(tx: Transaction, rubric: Rubric) -> Rubric:
    """Publish the event of a new version, and cache its hash after the commit."""
    outbox.publish(tx, rubric_event(tx.tenant_id, rubric))
    key = hash_key(tx.tenant_id, rubric.exam_id, rubric.question_id)
    # The cache entry is reserved while this transaction locks out other writers, so the last
    # writer to commit fills it.
    tx.after_commit(key, cache().reserve(key, rubric.hash, HASH_CACHE_SECONDS))
    return rubric


def _found[T](thing: T | None) -> T:
    if thing is None:
        raise NotFound("no such rubric")
    return thing
