"""Properties of rubrics: the hash exists from the start, and depends on the content only."""

import json
import unicodedata
from typing import Any
from uuid import UUID, uuid4

import redis
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.grading import GradingClient, path

from grading.domain import RubricContent, rubric_hash
from skald.postgres import Database

texts = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20
)
criteria = st.fixed_dictionaries(
    {"name": texts, "description": st.none() | texts, "points": st.integers(1, 100)}
)
contents = st.fixed_dictionaries(
    {
        "question": texts,
        "criteria": st.lists(criteria, min_size=1, max_size=3),
        "reference_answers": st.lists(texts, max_size=2),
    }
)


def hash_of(body: object) -> str:
    return rubric_hash(RubricContent.model_validate(body))


@given(body=contents)
def test_a_new_rubrics_hash_is_cached(
    body: dict[str, Any], api_key: str, tenant: UUID, database: Database, valkey: redis.Redis
) -> None:
    """
    **功能: architecture-deep-integration, 属性 11: 评分细则哈希预计算**
    **验证: 需求 6.2**
    """
    api, question = GradingClient(api_key), uuid4().hex
    created = api("POST", path(question), body)
    assert created.status == 201, created.text
    key = f"rubric_hash:{tenant}:networks:{question}"
    assert json.loads(str(valkey.get(key))) == created.body["hash"] == hash_of(body)
    assert 7 * 86400 - 60 < int(str(valkey.ttl(key))) <= 7 * 86400
    assert api("GET", path(question) + "/hash").body == {"hash": created.body["hash"]}


@given(body=contents)
def test_equal_content_has_one_hash(body: dict[str, Any]) -> None:
    """G-15: key order, numbers' spelling and Unicode form do not matter."""
    turned = dict(reversed(body.items())) | {
        "question": unicodedata.normalize("NFD", body["question"]),
        "criteria": [
            dict(reversed(c.items())) | {"points": float(c["points"])} for c in body["criteria"]
        ],
    }
    assert hash_of(turned) == hash_of(body)


@given(one=contents, other=contents)
def test_other_content_has_another_hash(one: dict[str, Any], other: dict[str, Any]) -> None:
    """G-15: two rubrics share a hash only when they are equal in one Unicode form."""

    def said(body: dict[str, Any]) -> str:
        return unicodedata.normalize("NFC", json.dumps(body, sort_keys=True, ensure_ascii=False))

    assert (hash_of(one) == hash_of(other)) == (said(one) == said(other))
    assert hash_of(one | {"question": one["question"] + "x"}) != hash_of(one)
