"""Rubrics: the criteria that judge answers to exam questions, and the hash of their content."""

import hashlib
import json
import unicodedata
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from skald.messaging.envelope import Envelope, derived_id

# The text type of PostgreSQL holds no NUL.
type Text = Annotated[str, Field(pattern=r"^[^\x00]*$", min_length=1, max_length=4000)]


class Criterion(BaseModel):
    """One thing that an answer gets points for."""

    name: Text = Field(description="The name of the criterion.")
    description: Text | None = Field(default=None, description="What an answer must contain.")
    points: float = Field(gt=0, le=1000, description="Points it gives at most.")


class RubricContent(BaseModel):
    """The content of a rubric. The order of criteria and answers is part of it."""

    question: Text = Field(description="The question.")
    criteria: list[Criterion] = Field(
        min_length=1, max_length=50, description="What answers get points for."
    )
    reference_answers: list[Text] = Field(
        default_factory=list, max_length=50, description="Answers that get all points."
    )


class RubricSummary(BaseModel):
    """A version of a rubric without its content."""

    exam_id: str = Field(description="The exam.")
    question_id: str = Field(description="The question.")
    version: int = Field(description="The version, from 1.")
    hash: str = Field(description="SHA-256 of the content, in hex.")
    created_at: datetime = Field(description="When this version was created.")


class Rubric(RubricSummary):
    """A version of a rubric."""

    content: RubricContent = Field(description="The content.")


class RubricHash(BaseModel):
    """The hash of the newest rubric of a question."""

    hash: str = Field(description="SHA-256 of the content, in hex.")


def rubric_hash(content: RubricContent) -> str:
    """Return the SHA-256 of the content in hex, independent of how its JSON was written (G-15).

    These do not matter: the order of keys, white space between values, 2 or 2.0, the Unicode form
    (NFC). These matter: every character of a text, the order of a list.
    """
    text = json.dumps(_normal(content.model_dump()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def hash_key(tenant_id: UUID, exam_id: str, question_id: str) -> str:
    """Return the key of a cached hash, as G-15 names it, with the tenant before the exam."""
    return f"rubric_hash:{tenant_id}:{exam_id}:{question_id}"


def rubric_event(tenant_id: UUID, rubric: RubricSummary) -> Envelope:
    """Return the event of a new version: `rubric.created` for the first, else `rubric.changed`."""
    event_type = "rubric.created" if rubric.version == 1 else "rubric.changed"
    target = f"{rubric.exam_id}:{rubric.question_id}"
    return Envelope(
        event_id=derived_id("rubric", tenant_id, target, rubric.version),
        event_type=event_type,
        tenant_id=tenant_id,
        target_id=target,
        target_type="rubric",
        payload=rubric.model_dump(mode="json", exclude={"created_at", "content"}),
    )


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return value
