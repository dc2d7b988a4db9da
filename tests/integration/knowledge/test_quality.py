"""V-09: how well the ways of searching find what people judged relevant, on XQuAD's paragraphs."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from skald.knowledge import NewEntry, Wanted, add, search
from skald.knowledge.ranking import MEANING, WORDING
from skald.state.postgres import Database

DATA = Path(__file__).parents[4] / "shared/data/documents/xquad"
TENTH = 10

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the data set is not here")


def lines(name: str) -> Iterator[dict[str, str]]:
    with (DATA / name).open() as file:
        yield from map(json.loads, file)


@pytest.fixture(scope="module")
def reader(database: Database) -> UUID:
    """A tenant whose knowledge base is the corpus."""
    tenant = uuid4()
    entries = [
        NewEntry(key=one["_id"], kind="paragraph", title=one["title"], text=one["text"])
        for one in lines("corpus.jsonl")
    ]
    with database.transaction(tenant) as tx:
        add(tx, entries)
    return tenant


def measured(database: Database, reader: UUID, meaning: float, wording: float) -> dict[str, float]:
    """Return recall and nDCG at ten; every question has one relevant paragraph."""
    judged = (DATA / "qrels.tsv").read_text().splitlines()
    relevant = dict(line.split("\t")[:2] for line in judged)
    # The weights of the fusion were chosen on the other half of the questions.
    recall, gain, questions = 0, 0.0, list(lines("queries.jsonl"))[1::2]
    with database.transaction(reader) as tx:
        texts = {one["_id"]: one["text"] for one in lines("corpus.jsonl")}
        for question in questions:
            wanted = Wanted(text=question["text"], kinds=("paragraph",), limit=TENTH)
            found = [one.text for one in search(tx, wanted, meaning=meaning, wording=wording)]
            right = texts[relevant[question["_id"]]]
            if right in found:
                recall += 1
                gain += 1 / math.log2(found.index(right) + 2)
    return {"recall": recall / len(questions), "ndcg": gain / len(questions)}


def test_fusion_is_no_worse_than_either_way(database: Database, reader: UUID) -> None:
    """V-09: floors for recall@10 and nDCG@10; the fused ranking is at the height of the better."""
    near = measured(database, reader, 1, 0)
    worded = measured(database, reader, 0, 1)
    fused = measured(database, reader, MEANING, WORDING)
    print(f"vector {near}, text {worded}, fused {fused}")
    assert near["recall"] >= 0.95
    assert worded["recall"] >= 0.85
    for figure in ("recall", "ndcg"):
        assert fused[figure] >= max(near[figure], worded[figure]) - 0.01
