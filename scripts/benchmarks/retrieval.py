"""A search of the knowledge base beside a scan of all its vectors."""

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from uuid import UUID, uuid4

import psycopg

from benchmarks.harness import Benchmark, Unit
from benchmarks.servers import Servers
from skald.knowledge import SHARED, Wanted, search
from skald.knowledge.embedders import Local
from skald.knowledge.spaces import literal
from skald.state.postgres import Database

ENTRIES = 100_000
QUESTIONS = 40
TENTH = 10
LEAST_RECALL = 0.95

_TOPICS, _TOPIC_WORDS, _COMMON_WORDS = 1_000, 24, 400
_KINDS = ("error_code", "diagnosis", "diagnosis", "note")
_INDEX = "skald.knowledge_embeddings_near_512"
_COPY_ENTRIES = """
    copy skald.knowledge_entries (tenant_id, entry_id, version, kind, key, title, text,
        error_codes, platform) from stdin
"""
_COPY_EMBEDDINGS = """
    copy skald.knowledge_embeddings (tenant_id, embedder, entry_id, dimensions, kind, error_codes,
        platform, embedding) from stdin
"""
_ALL_BY_DISTANCE = """
    select entry_id from skald.knowledge_embeddings
    order by embedding operator(public.<=>) %s::public.halfvec limit 10
"""
_FILTERED_BY_DISTANCE = """
    select entry_id from skald.knowledge_embeddings
    where tenant_id in (%(tenant)s, skald.shared_tenant())
      and (%(codes)s::text[] = '{}' or error_codes && %(codes)s)
      and (%(kinds)s::text[] = '{}' or kind = any(%(kinds)s))
      and (%(platform)s::text is null or platform is null or platform = %(platform)s)
    order by embedding operator(public.<=>) %(vector)s::public.halfvec limit 10
"""
_NEAREST = """
    select entry_id from skald.search_knowledge(jsonb_build_object('local', %(vector)s::text),
        %(text)s, %(codes)s, %(platform)s, null, %(kinds)s, 50, 1, 0)
    where by_meaning <= 10
"""


class Retrieval(Benchmark):
    name = "filtered hybrid query at 100,000 entries"
    unit = Unit.MILLISECONDS
    target = 50.0
    compares = "search (filters, meaning, words, fusion) / an exact scan of all vectors, unfiltered"
    limited_by = "broad filters: a walk through HNSW, or thousands of vectors compared exactly"

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        self._tenant_id = uuid4()
        self._database = Database(servers.app_dsn)
        resources.callback(self._database.close)
        connect = psycopg.connect(servers.admin_dsn, autocommit=True)
        self._admin = resources.enter_context(connect)
        corpus = Corpus(self._tenant_id)
        _load(self._admin, corpus)
        self._questions = [corpus.question(number) for number in range(QUESTIONS)]
        self._milliseconds: list[float] = []
        self._recall = self._measured_recall()
        if self._recall < LEAST_RECALL:
            raise AssertionError(f"recall@10 is {self._recall:.3f}, below {LEAST_RECALL}")
        resources.callback(self._tell)

    def ours(self) -> float:
        times = []
        for wanted in self._questions:
            with self._database.transaction(self._tenant_id) as transaction:
                times.append(_milliseconds(partial(search, transaction, wanted)))
        self._milliseconds += times
        return statistics.median(times)

    def peer(self) -> float:
        return statistics.median(_milliseconds(partial(self._scan, one)) for one in self._questions)

    def _scan(self, wanted: Wanted) -> list[tuple[UUID]]:
        return self._admin.execute(_ALL_BY_DISTANCE, (_vector(wanted.text),)).fetchall()

    def _measured_recall(self) -> float:
        """Return which share of the ten that are nearest within the filters a search finds."""
        found = wanted = 0
        for question in self._questions:
            parameters = {
                "tenant": self._tenant_id,
                "text": question.text,
                "vector": _vector(question.text),
                "codes": list(question.error_codes),
                "platform": question.platform,
                "kinds": list(question.kinds),
            }
            exact = {row[0] for row in self._admin.execute(_FILTERED_BY_DISTANCE, parameters)}
            with self._database.transaction(self._tenant_id) as transaction:
                near = {row["entry_id"] for row in transaction.execute(_NEAREST, parameters)}
            found, wanted = found + len(exact & near), wanted + len(exact)
        return found / wanted

    def _tell(self) -> None:
        median, *_ = statistics.quantiles(self._milliseconds, n=2)
        *_, late = statistics.quantiles(self._milliseconds, n=20)
        message = f"{self.name}: median {median:.2f} ms, p95 {late:.2f} ms"
        print(f"{message}, recall@10 {self._recall:.3f}", file=sys.stderr, flush=True)


class Corpus:
    """Entries on a thousand topics, each with its words and its code, the same in every run.

    Half are the searching tenant's, a fifth everybody's, the rest belongs to six other tenants.
    """

    def __init__(self, tenant_id: UUID) -> None:
        self._random = random.Random(2_026)  # noqa: S311 not for secrets
        self._common = [self._word() for _ in range(_COMMON_WORDS)]
        self._topics = [[self._word() for _ in range(_TOPIC_WORDS)] for _ in range(_TOPICS)]
        others = [uuid4() for _ in range(6)]
        self.tenants = [tenant_id, SHARED, *others]
        self._owners = [tenant_id] * 10 + [SHARED] * 4 + others

    def entries(self, count: int) -> Iterator[tuple[UUID, str, list[str], str | None, str, str]]:
        """Yield owner, kind, codes, platform, title and text."""
        for _ in range(count):
            topic = self._random.randrange(_TOPICS)
            owner, kind = self._random.choice(self._owners), self._random.choice(_KINDS)
            codes = [f"E{topic}", f"S{self._random.randrange(20)}"]
            platform = self._random.choice((None, "J5", "J6", "J7", "J9"))
            yield owner, kind, codes, platform, self._words(topic, 4, 1), self._words(topic, 9, 9)

    def question(self, number: int) -> Wanted:
        """Return a question on a topic, every other narrowed by a code, the rest by less."""
        topic = self._random.randrange(_TOPICS)
        filters = (
            {"error_codes": (f"E{topic}",), "platform": "J6"},
            {"platform": "J7", "kinds": ("diagnosis",)},
            {"error_codes": (f"E{topic}", "E1"), "kinds": ("diagnosis", "note")},
            {"error_codes": ("S3", "S4"), "platform": "J5"},
        )
        filtered = filters[number % len(filters)] | {"text": self._words(topic, 5, 3)}
        return Wanted.model_validate(filtered)

    def _words(self, topic: int, special: int, common: int) -> str:
        chosen = self._random.sample(self._topics[topic], special)
        return " ".join(chosen + self._random.sample(self._common, common))

    def _word(self) -> str:
        return "".join(self._random.choices("abcdefghiklmnoprstuvz", k=7))


def _load(admin: psycopg.Connection, corpus: Corpus) -> None:
    """Fill the tables, then build the HNSW index at once, which is faster than row by row."""
    definition = admin.execute("select pg_get_indexdef(%s::regclass)", (_INDEX,)).fetchone()
    admin.execute(f"drop index {_INDEX}")
    for tenant_id in corpus.tenants:
        admin.execute(
            "insert into skald.knowledge_spaces values (%s, 'local', %s, true)"
            " on conflict do nothing",
            (tenant_id, Local.dimensions),
        )
    entries = [(uuid4(), *entry) for entry in corpus.entries(ENTRIES)]
    with admin.cursor().copy(_COPY_ENTRIES) as copy:
        for entry_id, owner, kind, codes, platform, title, text in entries:
            row = (owner, entry_id, 1, kind, entry_id, title, text, codes, platform)
            copy.write_row(row)
    with admin.cursor().copy(_COPY_EMBEDDINGS) as copy:
        for entry_id, owner, kind, codes, platform, title, text in entries:
            vector = _vector(f"{title}\n{text}")
            embedded = (owner, "local", entry_id, Local.dimensions, kind, codes, platform, vector)
            copy.write_row(embedded)
    admin.execute("set maintenance_work_mem = '1GB'")
    admin.execute(definition[0].encode() if definition else b"")
    admin.execute("vacuum analyze skald.knowledge_entries, skald.knowledge_embeddings")


def _vector(text: str) -> str:
    return literal(Local().embed([text])[0])


def _milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000
