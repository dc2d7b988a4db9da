"""V-09: each way of searching finds a minimum share of the known answers."""

from pathlib import Path

from retrieval_quality import WAYS, Collection, Quality
from skald.postgres import Database


def measured(database: Database, collection: Collection) -> dict[str, Quality]:
    tenant = collection.stored(database)
    results = {way: collection.quality(database, tenant, *weights) for way, weights in WAYS.items()}
    print(results)
    return results


def test_fusion_is_no_worse_than_either_way(database: Database, real_data: Path) -> None:
    """V-09: minimum recall@10 and nDCG@10; the fused ranking is as good as the better way."""
    near, worded, fused = measured(database, Collection.of_xquad()).values()
    assert near.recall >= 0.95
    assert worded.recall >= 0.85
    assert fused.recall >= max(near.recall, worded.recall) - 0.01
    assert fused.ndcg >= max(near.ndcg, worded.ndcg) - 0.01


def test_the_library_is_found_by_what_its_entries_are_called(database: Database) -> None:
    """V-09: without a data set beside the project, its own library is the collection."""
    _, _, fused = measured(database, Collection.of_library()).values()
    assert fused.recall >= 0.8
