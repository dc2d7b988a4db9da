"""Benchmarks of checkpoints against LangGraph's saver on PostgreSQL: speed, size, restore."""

import operator
import random
from collections.abc import Sequence
from contextlib import ExitStack
from string import ascii_lowercase
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres import PostgresSaver  # type: ignore[import-not-found]
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from benchmarks.harness import Benchmark, Unit, per_second
from benchmarks.servers import Servers
from skald.checkpoints import Checkpointer
from skald.postgres import Database

NODES = 10
WALKS = 20
"""Runs of the graph per round, each with its own thread; one run is too short to measure."""
THREAD_STEPS = 100
RESTORES = 50
# Random words, so that compression gains nothing from repeated text.
_WORDS = random.Random(4)  # noqa: S311 (no secret)
_VOCABULARY = ["".join(_WORDS.choices(ascii_lowercase, k=6)) for _ in range(5000)]


class Document(TypedDict):
    """A document that no node changes, and the note that each node writes."""

    document: dict[str, Any]
    note: str


class Talk(TypedDict):
    """A list of messages that grows."""

    messages: Annotated[list[dict[str, str]], operator.add]


def _document(kilobytes: int) -> dict[str, Any]:
    # It is a mapping: the peer stores plain texts in every checkpoint, which would be unfair to it.
    paragraph = "The supply voltage fell below what the control units need. " * 17
    return {"paragraphs": [f"{number} {paragraph}" for number in range(kilobytes)]}


def _document_graph() -> StateGraph[Document]:
    graph = StateGraph(Document)
    before = START
    for number in range(NODES):
        name = f"node{number}"
        graph.add_node(name, lambda _, name=name: {"note": name})
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


class _Savers(Benchmark):
    """Sets up both savers; the peer has its own schema."""

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        self._database = Database(servers.app_dsn)
        resources.callback(self._database.close)
        self._admin = resources.enter_context(
            psycopg.connect(servers.admin_dsn, autocommit=True, row_factory=dict_row)
        )
        self._admin.execute("create schema if not exists peer")
        # The peer's documentation recommends autocommit and prepared statements on one connection.
        connection = resources.enter_context(
            psycopg.connect(
                servers.admin_dsn,
                autocommit=True,
                prepare_threshold=0,
                row_factory=dict_row,
                options="-c search_path=peer",
            )
        )
        self._theirs = PostgresSaver(connection)
        self._theirs.setup()
        self._ours = Checkpointer(self._database, uuid4())


class CheckpointedSteps(_Savers):
    name = "checkpointed steps, 200 KB document"
    target = 1.5
    compares = "a 10-node graph, durability sync / langgraph-checkpoint-postgres"
    limited_by = "LangGraph itself, half of a step, and the one call that waits for its commit"

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        super().__init__(servers, resources)
        self._start: Document = {"document": _document(200), "note": ""}

    def ours(self) -> float:
        threads = _threads()
        with ExitStack() as writing:
            for thread in threads:
                writing.enter_context(self._ours.writing(thread))
            return self._rate(self._ours, threads)

    def peer(self) -> float:
        return self._rate(self._theirs, _threads())

    def _rate(self, saver: BaseCheckpointSaver[Any], threads: Sequence[str]) -> float:
        graph = _document_graph().compile(checkpointer=saver)

        def walk() -> None:
            for thread in threads:
                config: RunnableConfig = {"configurable": {"thread_id": thread}}
                graph.invoke(self._start, config, durability="sync")

        return per_second(NODES * len(threads), walk)


def _threads() -> list[str]:
    return [str(uuid4()) for _ in range(WALKS)]


class _Thread(_Savers):
    """Writes a thread of a hundred steps; each step appends one message to a list."""

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        super().__init__(servers, resources)
        self._threads = {"ours": str(uuid4()), "peer": str(uuid4())}
        with self._ours.writing(self._threads["ours"]):
            self._talk(self._ours, "ours")
        self._talk(self._theirs, "peer")

    def _talk(self, saver: BaseCheckpointSaver[Any], side: str) -> None:
        _talk_graph().compile(checkpointer=saver).invoke(
            {"messages": []},
            self._config(side, recursion_limit=THREAD_STEPS + 5),
            durability="sync",
        )

    def _config(self, side: str, **more: Any) -> RunnableConfig:
        config: RunnableConfig = {"configurable": {"thread_id": self._threads[side]}}
        return config | more  # type: ignore[return-value]  # a union of typed dicts


class CheckpointBytes(_Thread):
    name = "bytes stored, 100-step thread that grows"
    unit = Unit.BYTES
    target = 5.0
    compares = "checkpoints, values and writes as rows / langgraph-checkpoint-postgres"
    limited_by = "the checkpoints' own outlines, the writes, and a whole value every 32 steps"

    def ours(self) -> float:
        tables = ("skald.checkpoints", "skald.checkpoint_values", "skald.checkpoint_writes")
        return self._bytes("ours", *tables)

    def peer(self) -> float:
        tables = ("peer.checkpoints", "peer.checkpoint_blobs", "peer.checkpoint_writes")
        return self._bytes("peer", *tables)

    def _bytes(self, side: str, *tables: str) -> float:
        total = 0.0
        for table in tables:
            query = SQL("select sum(pg_column_size(t.*)) as bytes from {} t where thread_id = %s")
            row = self._admin.execute(
                query.format(Identifier(*table.split("."))), [self._threads[side]]
            ).fetchone()
            total += float(row["bytes"] or 0) if row else 0.0
        return total


class CheckpointRestore(_Thread):
    name = "restore of the newest state"
    target = 1.0
    compares = "get_tuple of a 100-step thread / langgraph-checkpoint-postgres"
    limited_by = "one call on either side; ours puts the value together and checks it"

    def ours(self) -> float:
        return self._rate(self._ours, "ours")

    def peer(self) -> float:
        return self._rate(self._theirs, "peer")

    def _rate(self, saver: BaseCheckpointSaver[Any], side: str) -> float:
        config = self._config(side)

        def restore() -> None:
            for _ in range(RESTORES):
                found = saver.get_tuple(config)
                if found is None or len(found.checkpoint["channel_values"]["messages"]) != 100:
                    raise AssertionError("this is not the newest state")

        return per_second(RESTORES, restore)


def _talk_graph() -> StateGraph[Talk]:
    def say(state: Talk) -> dict[str, Any]:
        words = [str(len(state["messages"])), *_WORDS.choices(_VOCABULARY, k=50)]
        return {"messages": [{"role": "user", "content": " ".join(words)}]}

    def more(state: Talk) -> str:
        return "say" if len(state["messages"]) < THREAD_STEPS else END

    graph = StateGraph(Talk)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    graph.add_conditional_edges("say", more)
    return graph
