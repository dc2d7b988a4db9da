"""The command line of scripts/retrieval-quality: measures recall and nDCG of the search."""

import argparse
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple, Self
from uuid import UUID, uuid4

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.servers import running
from operations.library import entries
from real_data import real_data
from skald.knowledge.entries import NewEntry, Wanted
from skald.knowledge.ranking import MEANING, WORDING, search
from skald.knowledge.store import add
from skald.postgres import Database, database

ROOT = Path(os.environ.get("SKALD_ROOT") or Path(__file__).parents[1])
XQUAD = real_data("documents", "xquad")
TENTH = 10
KIND = "paragraph"
WAYS: Mapping[str, tuple[float, float]] = {
    "vector": (1, 0),
    "text": (0, 1),
    "fused": (MEANING, WORDING),
}
"""Name of a search -> weights of meaning and wording."""


class Quality(NamedTuple):
    """The means of recall@10 and nDCG@10 over all questions, 0 to 1."""

    recall: float
    ndcg: float


@dataclass(frozen=True)
class Collection:
    """Entries, and questions; each question has the key of the one entry that answers it."""

    name: str
    entries: Sequence[NewEntry]
    questions: Sequence[tuple[str, str]]

    @classmethod
    def of_xquad(cls) -> Self:
        """Return the paragraphs of XQuAD, and those questions that did not tune the weights."""
        corpus, queries = (_lines(XQUAD / f"{name}.jsonl") for name in ("corpus", "queries"))
        judged = (XQUAD / "qrels.tsv").read_text().splitlines()
        relevant = dict(line.split("\t")[:2] for line in judged)
        return cls(
            "XQuAD",
            [
                NewEntry(key=one["_id"], kind=KIND, title=one["title"], text=one["text"])
                for one in corpus
            ],
            [(one["text"], relevant[one["_id"]]) for one in queries[1::2]],
        )

    @classmethod
    def of_library(cls) -> Self:
        """Return the library of error codes; its titles are the questions, not in the entries."""
        library = entries()
        return cls(
            "library of error codes",
            [one.model_copy(update={"kind": KIND, "title": one.key}) for one in library],
            [(one.title, one.key) for one in library],
        )

    def stored(self, into: Database) -> UUID:
        """Store the collection as the knowledge base of a new tenant; return the tenant's id."""
        tenant = uuid4()
        with into.transaction(tenant) as transaction:
            add(transaction, self.entries)
        return tenant

    def quality(self, of: Database, tenant: UUID, meaning: float, wording: float) -> Quality:
        """Search for every question as a tenant that stores this collection; return the quality."""
        texts = {entry.key: entry.text for entry in self.entries}
        places = []
        call = partial(of.call, tenant)
        for question, key in self.questions:
            wanted = Wanted(text=question, kinds=(KIND,), limit=TENTH)
            found = search(call, wanted, meaning=meaning, wording=wording)
            texts_found = [one.text for one in found]
            if texts[key] in texts_found:
                places.append(texts_found.index(texts[key]))
        count = len(self.questions)
        return Quality(len(places) / count, sum(1 / math.log2(at + 2) for at in places) / count)


def main() -> None:
    """Measure each kind of search; print a table, then one JSON line."""
    options = _parser().parse_args()
    collection = Collection.of_xquad() if XQUAD.exists() else Collection.of_library()
    # The kernel prints metrics to stdout, which is for results here.
    with running(ROOT, fsync=False), redirect_stdout(StringIO()):
        tenant = collection.stored(database())
        ways = track(WAYS.items(), "searching", console=Console(stderr=True), transient=True)
        results = {way: collection.quality(database(), tenant, *weights) for way, weights in ways}
        database().close()
    if not options.json:
        Console().print(_table(collection, results))
    figures = {way: quality._asdict() for way, quality in results.items()}
    print(
        json.dumps(
            {"collection": collection.name, "questions": len(collection.questions)} | figures
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/retrieval-quality",
        description="Search a collection with known answers: by meaning, by words and by both."
        " Print recall@10 and nDCG@10. For the speed of a search run scripts/bench --only hybrid.",
    )
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    return parser


def _table(collection: Collection, results: Mapping[str, Quality]) -> Table:
    title = f"{len(collection.questions)} questions, {collection.name}"
    table = Table("search by", "recall@10", "nDCG@10", title=title)
    for way, quality in results.items():
        table.add_row(way, *(f"{figure:.3f}" for figure in quality))
    return table


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
