"""G-02: a document in the state of a run is stored once, and each step is one save."""

import threading
import time
from typing import Any
from uuid import UUID

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START, StateGraph
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.checkpoints.graphs import Walk, checkpoint
from tests.integration.support import wait_until

from skald.checkpoints import Checkpointer, NeedsManualIntervention, run, store
from skald.checkpoints.coalescing import WriteCoalescer
from skald.checkpoints.store import Place, Write
from skald.checkpoints.values import Stored
from skald.postgres import Database
from skald.postgres.calls import Calls

DOCUMENT = "".join(f"paragraph {number} " for number in range(2000))
EDITED = DOCUMENT + "the end"
CONFIG: RunnableConfig = {"configurable": {"thread_id": "t"}}
BEFORE = Place("t", "", "1")
WRITES = [Write("task", 0, "", "channel", None, Stored.of(b"written"))]


@pytest.fixture
def saver(database: Database, tenant: UUID) -> Checkpointer:
    return Checkpointer(database, tenant)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a checkpoint may come later than the writes wait for it."""
    monkeypatch.setattr("skald.checkpoints.coalescing.MOMENT_SECONDS", 60.0)


def step(
    saver: Checkpointer, config: RunnableConfig, writes: dict[str, Any], values: dict[str, Any]
) -> RunnableConfig:
    """Save the writes of a task and the next checkpoint, which includes them."""
    writing = threading.Thread(target=lambda: saver.put_writes(config, [*writes.items()], "task"))
    writing.start()
    wait_until(lambda: bool(saver._coalescer._offered), "the writes to wait")
    after = saver.put(config, checkpoint(values, 1), {}, dict.fromkeys(values, 1))
    writing.join()
    return after


def edited(saver: Checkpointer) -> None:
    """Save a run as LangGraph does: its input, the writes of it, and a small change by a node."""
    with saver.writing("t"):
        start = {START: {"document": DOCUMENT, "steps": []}}
        config = saver.put(CONFIG, checkpoint(start, 1), {}, {START: 1})
        config = step(saver, config, {"document": DOCUMENT}, {"document": DOCUMENT})
        step(saver, config, {"document": EDITED}, {"document": EDITED})


def documents(saver: Checkpointer, config: RunnableConfig = CONFIG) -> list[Any]:
    """Return the document of each checkpoint, oldest first, and of the task writes after it."""
    found = []
    for kept in reversed([*saver.list(config)]):
        found.append(kept.checkpoint["channel_values"].get("document"))
        found += [value for _, channel, value in kept.pending_writes or [] if channel == "document"]
    return found


STORED = [None, DOCUMENT, DOCUMENT, EDITED, EDITED]


@pytest.mark.usefixtures("patient")
def test_a_document_is_stored_once(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02: it is the input, a write of the input, a value and the basis of a node's change."""
    edited(saver)
    sizes = [
        row["data_size_bytes"]
        for row in admin.execute(
            "select data_size_bytes from skald.checkpoint_values where tenant_id = %(tenant)s"
            " union all"
            " select data_size_bytes from skald.checkpoint_writes where tenant_id = %(tenant)s",
            {"tenant": tenant},
        )
    ]
    assert max(sizes) >= len(DOCUMENT)
    assert sum(sizes) < len(DOCUMENT) * 1.1
    assert documents(saver) == STORED


@pytest.mark.usefixtures("patient")
def test_copies_have_all_their_parts(saver: Checkpointer) -> None:
    """G-02: also a value that is built from another channel's value."""
    edited(saver)
    saver.copy_thread("t", "copy")
    saver.delete_thread("t")
    assert documents(saver, {"configurable": {"thread_id": "copy"}}) == STORED


@pytest.mark.usefixtures("patient")
def test_pruning_keeps_the_channel_another_is_made_of(saver: Checkpointer) -> None:
    """G-02: the row of the input stays while a document is built from it."""
    edited(saver)
    saver.prune(["t"])
    assert documents(saver) == [EDITED]


@pytest.mark.usefixtures("patient")
def test_corrupt_writes_are_noticed(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-04: also writes that a checkpoint includes."""
    edited(saver)
    admin.execute(
        "update skald.checkpoints set taken_writes = taken_writes || 'x' where tenant_id = %s",
        [tenant],
    )
    assert documents(saver) == [EDITED]


@pytest.mark.usefixtures("patient")
def test_a_corrupt_newest_returns_the_writes_it_included(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-04: the node before the corrupt checkpoint has finished, and does not run again."""
    edited(saver)
    admin.execute(
        "update skald.checkpoints set state = state || 'x'"
        " where tenant_id = %(tenant)s and checkpoint_id = ("
        " select max(checkpoint_id) from skald.checkpoints where tenant_id = %(tenant)s)",
        {"tenant": tenant},
    )
    found = saver.get_tuple(CONFIG)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"document": DOCUMENT}
    assert found.pending_writes == [("task", "document", EDITED)]


def test_writes_saved_alone_and_taken_along_are_read_together(
    saver: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-02: in the order in which a live run applies them."""
    with saver.writing("t"):
        config = saver.put(CONFIG, checkpoint({"a": 1}, 1), {}, {"a": 1})
        with monkeypatch.context() as patch:
            patch.setattr("skald.checkpoints.coalescing.MOMENT_SECONDS", 0.0)
            saver.put_writes(config, [("a", 3)], "x later task")
        monkeypatch.setattr("skald.checkpoints.coalescing.MOMENT_SECONDS", 60.0)
        step(saver, config, {"a": 2}, {"a": 2})
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "a", 2), ("x later task", "a", 3)]


# Write coalescing ---------------------------------------------------------------------------------


@pytest.fixture
def coalescer(patient: None) -> WriteCoalescer:
    return WriteCoalescer()


class Waiting(threading.Thread):
    """The thread of a task that has writes to save."""

    is_collected: bool | None = None

    def __init__(self, coalescer: WriteCoalescer) -> None:
        super().__init__()
        self._coalescer = coalescer
        self.start()
        wait_until(lambda: bool(coalescer._offered), "the writes to wait")

    def run(self) -> None:
        self.is_collected = self._coalescer.offer(BEFORE, lambda: WRITES)


def test_writes_travel_with_their_checkpoint(coalescer: WriteCoalescer) -> None:
    """G-02: the checkpoint includes the writes."""
    waiting = Waiting(coalescer)
    assert coalescer.collect(BEFORE) == WRITES
    waiting.join()
    assert waiting.is_collected


def test_writes_do_not_wait_if_their_checkpoint_waits(
    coalescer: WriteCoalescer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-02: the checkpoint may come before its writes."""
    monkeypatch.setattr("skald.checkpoints.coalescing._PASSING_SECONDS", 60.0)
    taken: list[Write] = []
    checkpoint = threading.Thread(target=lambda: taken.extend(coalescer.collect(BEFORE)))
    checkpoint.start()
    wait_until(lambda: bool(coalescer._collecting), "the checkpoint to look out")
    with coalescer._changed:
        assert coalescer.offer(BEFORE, lambda: WRITES)
        assert coalescer._offered, "they are not taken yet"
    checkpoint.join()
    assert taken == WRITES


def test_writes_that_no_checkpoint_included_are_saved_alone_and_once(
    coalescer: WriteCoalescer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-02: sibling nodes may work for a long time."""
    monkeypatch.setattr("skald.checkpoints.coalescing.MOMENT_SECONDS", 0.3)
    assert not coalescer.offer(BEFORE, lambda: WRITES)
    assert coalescer.collect(BEFORE) == []


def test_writes_do_not_wait_for_a_checkpoint_that_has_left(coalescer: WriteCoalescer) -> None:
    """G-02: two threads save the checkpoint and the writes, in either order."""
    coalescer.collect(BEFORE)
    began = time.monotonic()
    assert not coalescer.offer(BEFORE, lambda: WRITES)
    assert time.monotonic() - began < 30


def test_included_writes_stay_included_after_the_next_checkpoint(
    coalescer: WriteCoalescer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-02: a task's thread that wakes up late does not save the writes again."""
    monkeypatch.setattr("skald.checkpoints.coalescing._PASSING_SECONDS", 0.0)
    waiting = Waiting(coalescer)
    with coalescer._changed:  # the waiting thread cannot look before the second has left
        assert coalescer.collect(BEFORE) == WRITES
        coalescer.collect(BEFORE._replace(checkpoint_id="2"))
    waiting.join()
    assert waiting.is_collected


@pytest.mark.usefixtures("patient")
def test_writes_fail_with_their_checkpoint(
    saver: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-02: if the save of a checkpoint fails, the run ends, and the next run repeats the task."""
    monkeypatch.setattr("skald.checkpoints.coalescing._PASSING_SECONDS", 60.0)
    ran: list[str] = []

    def work(_: Walk) -> dict[str, Any]:
        ran.append("work")
        return {"steps": ["work"]}

    graph = StateGraph(Walk)
    graph.add_node("work", RunnableLambda(work))
    graph.add_node("rest", RunnableLambda(lambda _: ran.append("rest")))
    graph.add_edge(START, "work")
    graph.add_edge("work", "rest")
    start = {"steps": [], "document": ""}
    save = store.save

    def fail(*arguments: Any) -> bool:
        *_, metadata, coalesced = arguments
        if metadata["step"] == 1:
            assert coalesced
            raise psycopg.OperationalError("the disk is full")
        return save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store, "save", fail)
        patch.setattr("skald.checkpoints.writers._PAUSE_SECONDS", 0.0)
        with pytest.raises(NeedsManualIntervention):
            run(graph, start, thread_id="t", checkpointer=saver)
    assert ran == ["work"]
    assert saver.resolve("t")
    assert run(graph, start, thread_id="t", checkpointer=saver)["steps"] == ["work"]
    assert ran == ["work", "work", "rest"]


def test_a_finished_branch_is_safe_while_its_sibling_works(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02, G-04: its writes wait a moment for a checkpoint, not until the end of the step."""

    def written() -> bool:
        row = admin.execute(
            "select true from skald.checkpoint_writes where tenant_id = %s and channel = 'steps'"
            " and data = %s",
            [tenant, b"\x91\xa4left"],
        ).fetchone()
        return row is not None

    def right(_: Walk) -> dict[str, Any]:
        wait_until(written, "the sibling's writes")
        return {"steps": ["right"]}

    graph = StateGraph(Walk)
    graph.add_node("left", lambda _: {"steps": ["left"]})
    graph.add_node("right", RunnableLambda(right))
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    run(graph, {"steps": [], "document": ""}, thread_id="t", checkpointer=saver)


# Round trips --------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that were run."""
    ran: list[str] = []

    def note(owner: type, method: str) -> None:
        run = getattr(owner, method)

        def noted(self: Any, query: Any, *arguments: Any, **named: Any) -> Any:
            ran.append(str(query))
            return run(self, query, *arguments, **named)

        monkeypatch.setattr(owner, method, noted)

    note(psycopg.Cursor, "execute")
    note(Calls, "rows")
    return ran


@pytest.mark.usefixtures("patient")
def test_a_restore_is_one_statement(saver: Checkpointer, calls: list[str]) -> None:
    """G-02: a checkpoint is read in one round trip, with any number of parts."""
    edited(saver)
    calls.clear()
    assert saver.state("t") == {"document": EDITED}
    assert len(calls) == 1


def test_a_new_thread_is_not_read(saver: Checkpointer, calls: list[str]) -> None:
    """G-02: the claim shows that the thread is new, so nothing is read before the first save."""
    with saver.writing("t"):
        calls.clear()
        assert saver.get_tuple(CONFIG) is None
        assert calls == []
        saver.put(CONFIG, checkpoint({"a": 1}, 1), {}, {"a": 1})
        assert saver.state("t") == {"a": 1}
    with saver.writing("t"):
        assert saver.state("t") == {"a": 1}
    with saver.writing("copy"):
        saver.copy_thread("t", "copy")
        assert saver.state("copy") == {"a": 1}


@pytest.mark.usefixtures("patient")
def test_a_step_is_one_statement(saver: Checkpointer, calls: list[str]) -> None:
    """G-02: a checkpoint includes the writes of its task."""
    with saver.writing("t"):
        config = saver.put(CONFIG, checkpoint({"a": 1}, 1), {}, {"a": 1})
        calls.clear()
        step(saver, config, {"a": 2}, {"a": 2})
        assert len(calls) == 1
    before = saver.get_tuple(config)
    assert before is not None
    assert before.pending_writes == [("task", "a", 2)]


def test_a_call_binds_its_tenant_and_leaves_nothing_behind(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-03: the tenant holds until the call's own transaction ends, never in another tenant's."""
    database.call(tenant, "select skald.act_for($1)")
    unbound = "select skald.current_tenant() where $1::uuid is not null"
    assert database.call(tenant, unbound) == [(None,)]
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        database.transaction(other_tenant) as tx,
    ):
        tx.execute("select skald.act_for(%s)", (tenant,))
