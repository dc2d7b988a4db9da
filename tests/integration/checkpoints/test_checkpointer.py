"""G-02 to G-04: checkpoints survive a crash, stay small, and have one writer."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START as START_NODE
from langgraph.graph import StateGraph
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.checkpoints.graphs import NODES, Walk, checkpoint, walk
from tests.integration.conftest import ROOT, Servers
from tests.integration.support import wait_until

from skald.checkpoints import (
    Abandoned,
    Checkpointer,
    CorruptCheckpoint,
    NeedsManualIntervention,
    NotSerializable,
    ThreadBusy,
    run,
    store,
    threads,
)
from skald.postgres import Database

START: dict[str, Any] = {"steps": [], "document": ""}
WALKED = ["plan", "left", "right", "join", "end"]


@pytest.fixture
def saver(database: Database, tenant: UUID) -> Checkpointer:
    return Checkpointer(database, tenant)


def grow(saver: Checkpointer, thread: str, steps: int) -> list[RunnableConfig]:
    """Save a list that gets one more element at each step."""
    config: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    configs = []
    with saver.writing(thread):
        for step in range(1, steps + 1):
            values = {"messages": [f"message {n}: {'word ' * 20}" for n in range(step)]}
            config = saver.put(
                config,
                checkpoint(values, step),
                {"source": "loop", "step": step},
                {"messages": step},
            )
            configs.append(config)
    return configs


def messages(saver: Checkpointer, config: RunnableConfig) -> int:
    found = saver.get_tuple(config)
    assert found is not None
    return len(found.checkpoint["channel_values"]["messages"])


def thread_config(thread: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread}}


# Small, and readable from anywhere ----------------------------------------------------------------


def test_what_grows_is_stored_as_what_is_new(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02: a hundred steps cost little more than the last one, and each of them can be read."""
    configs = grow(saver, "t", 100)
    row = admin.execute(
        "select sum(data_size_bytes) as bytes, count(*) filter (where not is_delta) as whole"
        " from skald.checkpoint_values where tenant_id = %s",
        [tenant],
    ).fetchone()
    assert row is not None
    whole = 100 * 101 / 2 * 110
    assert row["bytes"] < whole / 5
    assert row["whole"] == 4
    assert [messages(saver, config) for config in configs] == list(range(1, 101))


def test_large_content_is_compressed(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02: content above 1 MiB, and well below."""
    text = "brown-out " * 150_000
    config = saver.put(thread_config("t"), checkpoint({"a": text}, 1), {}, {"a": 1})
    row = admin.execute(
        "select is_compressed, data_size_bytes from skald.checkpoint_values where tenant_id = %s",
        [tenant],
    ).fetchone()
    assert row is not None
    assert row["is_compressed"]
    assert row["data_size_bytes"] < 100_000
    found = saver.get_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": text}


def test_pruning_keeps_what_differences_are_built_on(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    configs = grow(saver, "t", 50)
    saver.prune(["t"])
    assert messages(saver, thread_config("t")) == 50
    assert saver.get_tuple(configs[0]) is None
    assert len([*saver.list(thread_config("t"))]) == 1
    row = admin.execute(
        "select count(*) as left_over from skald.checkpoint_values where tenant_id = %s", [tenant]
    ).fetchone()
    assert row is not None
    assert row["left_over"] < 32
    saver.prune(["t"], strategy="delete")
    assert saver.get_tuple(thread_config("t")) is None


def test_behind_a_pooler(servers: Servers, tenant: UUID) -> None:
    database = Database(servers.app_dsn, behind_pooler=True)
    saver = Checkpointer(database, tenant)
    assert messages(saver, grow(saver, "t", 5)[-1]) == 5
    database.close()


# Types and tenants --------------------------------------------------------------------------------


@dataclass
class Secret:
    word: str


def test_only_plain_data_and_listed_types_are_saved(database: Database, tenant: UUID) -> None:
    values = {"a": [Secret("x" * 500)]}
    with pytest.raises(NotSerializable, match="Secret"):
        Checkpointer(database, tenant).put(thread_config("t"), checkpoint(values, 1), {}, {"a": 1})
    listed = Checkpointer(database, tenant, types=[Secret])
    config = listed.put(thread_config("t"), checkpoint(values, 1), {}, {"a": 1})
    found = listed.get_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"] == values


def test_a_stranger_sees_nothing(
    database: Database, saver: Checkpointer, other_tenant: UUID
) -> None:
    """Q-03: two tenants may use the same thread id."""
    grow(saver, "t", 3)
    stranger = Checkpointer(database, other_tenant)
    assert stranger.get_tuple(thread_config("t")) is None
    assert [*stranger.list(None)] == []
    grow(stranger, "t", 1)
    stranger.delete_thread("t")
    assert messages(saver, thread_config("t")) == 3


# Corrupt checkpoints ------------------------------------------------------------------------------


def corrupt(admin: Connection[DictRow], tenant: UUID, *checkpoint_ids: str) -> None:
    admin.execute(
        "update skald.checkpoint_values set data = substring(data for length(data) - 1) || 'x'"
        " where tenant_id = %s and checkpoint_id = any(%s)",
        [tenant, list(checkpoint_ids)],
    )


def test_a_corrupt_newest_falls_back_to_the_one_before(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-04: a run continues from the checkpoint before the corrupt one."""
    configs = grow(saver, "t", 5)
    ids = [config["configurable"]["checkpoint_id"] for config in configs]
    corrupt(admin, tenant, ids[-1])
    assert messages(saver, thread_config("t")) == 4
    with pytest.raises(CorruptCheckpoint):
        saver.get_tuple(configs[-1])
    assert len([*saver.list(thread_config("t"))]) == 4
    corrupt(admin, tenant, *ids)
    assert messages(saver, thread_config("t")) == 2  # small: stored in the checkpoint
    admin.execute(
        "update skald.checkpoints set state = state || 'x' where tenant_id = %s", [tenant]
    )
    assert saver.get_tuple(thread_config("t")) is None


def test_a_run_whose_checkpoints_are_all_corrupt_starts_again(
    saver: Checkpointer, tenant: UUID, admin: Connection[DictRow], tmp_path: Path
) -> None:
    """G-04: a run without a readable checkpoint starts from the beginning."""
    notes = tmp_path / "notes"
    run(walk(notes), START, thread_id="t", checkpointer=saver)
    admin.execute(
        "update skald.checkpoints set state = state || 'x' where tenant_id = %s", [tenant]
    )
    state = run(walk(notes), START, thread_id="t", checkpointer=saver)
    assert state["steps"] == WALKED
    assert len(notes.read_text().split()) == 10


# One writer ---------------------------------------------------------------------------------------


def test_a_second_writer_is_refused(database: Database, tenant: UUID, saver: Checkpointer) -> None:
    """G-02: a thread has one writer at a time."""
    other = Checkpointer(database, tenant)
    with saver.writing("t"):
        with pytest.raises(ThreadBusy):
            grow(other, "t", 1)
        grow(other, "another", 1)
    grow(other, "t", 1)


def test_a_writer_after_its_lease_cannot_write(
    database: Database, tenant: UUID, saver: Checkpointer, admin: Connection[DictRow]
) -> None:
    """G-02: the statement of the write checks the token."""
    with saver.writing("t"):
        config = saver.put(thread_config("t"), checkpoint({"a": 1}, 1), {}, {"a": 1})
        admin.execute(
            "update skald.checkpoint_threads set leased_until = now() - interval '1 s'"
            " where tenant_id = %s",
            [tenant],
        )
        successor = Checkpointer(database, tenant)
        with successor.writing("t"):
            for attempt in (
                lambda: saver.put(config, checkpoint({"a": 2}, 2), {}, {"a": 2}),
                lambda: saver.put_writes(config, [("a", 3)], "task"),
                lambda: saver.renew("t"),
            ):
                with pytest.raises(ThreadBusy):
                    attempt()
            assert successor.state("t") == {"a": 1}


def test_a_takeover_waits_for_a_write_under_way(
    database: Database, tenant: UUID, saver: Checkpointer, servers: Servers
) -> None:
    """G-02: no takeover comes between the check of a token and the commit of its write."""
    saved, taken = threading.Event(), threading.Event()
    value = checkpoint({"a": 1}, 1)

    def save() -> None:
        saver.put(thread_config("t"), value, {}, {"a": 1})
        saved.set()

    def take_over() -> None:
        threads.take(partial(database.call, tenant), "t", timedelta(seconds=30))
        taken.set()

    with (
        saver.writing("t"),
        psycopg.connect(servers.admin_dsn) as admin,
        psycopg.connect(servers.admin_dsn, autocommit=True) as observer,
    ):
        # A row with the same key, so that the write waits in the middle of its statement.
        admin.execute(
            "insert into skald.checkpoints values (%s, 't', '', %s, null, '', 0, '{}', '{}')",
            (tenant, value["id"]),
        )
        writer = threading.Thread(target=save)
        writer.start()
        wait_until(lambda: _is_waiting(observer), "the write to wait")
        observer.execute(
            "update skald.checkpoint_threads set leased_until = now() - interval '1 s'"
            " where tenant_id = %s",
            [tenant],
        )
        successor = threading.Thread(target=take_over)
        successor.start()
        assert not taken.wait(0.3)
        assert not saved.is_set()
        admin.rollback()
        writer.join()
        successor.join()
    assert taken.is_set()


def _is_waiting(connection: psycopg.Connection[Any]) -> bool:
    """Look for a write that waits. Each look needs a transaction of its own to see new data."""
    waiting = connection.execute(
        "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%save_check%'"
    )
    return waiting.fetchone() is not None


def test_three_failures_park_the_thread_for_a_person(
    saver: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G-02: the thread waits for a decision of a person."""
    attempts: list[int] = []

    def fail(*_: object, **__: object) -> bool:
        attempts.append(1)
        raise psycopg.OperationalError("the disk is full")

    grow(saver, "t", 1)
    with monkeypatch.context() as patch:
        patch.setattr(store, "save", fail)
        with pytest.raises(NeedsManualIntervention):
            grow(saver, "t", 1)
    assert len(attempts) == 3
    with pytest.raises(NeedsManualIntervention, match="the disk is full"):
        grow(saver, "t", 1)
    assert saver.resolve("t")
    assert not saver.resolve("t")
    grow(saver, "t", 1)


# Runs ---------------------------------------------------------------------------------------------


def walking(
    servers: Servers, tenant: UUID, notes: Path, thread: str, killed_in: str
) -> subprocess.Popen[str]:
    paths = [str(ROOT), str(ROOT / "layers" / "core"), str(ROOT / "functions")]
    return subprocess.Popen(  # noqa: S603 (our own script)
        [sys.executable, Path(__file__).with_name("graphs.py"), thread, killed_in],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(paths),
            "POSTGRES_DSN": servers.app_dsn,
            "TENANT": str(tenant),
            "NOTES": str(notes),
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        },
        text=True,
    )


@pytest.mark.parametrize("killed_in", NODES)
def test_a_killed_run_goes_on_and_repeats_no_finished_node(
    servers: Servers, tenant: UUID, saver: Checkpointer, tmp_path: Path, killed_in: str
) -> None:
    """G-04: SIGKILL in each node, which is right after the one before; also in branches."""
    notes = tmp_path / "notes"
    dying = walking(servers, tenant, notes, "t", killed_in)
    assert dying.wait(60) == -signal.SIGKILL
    wait_until(lambda: _is_free(saver), "the lease of the dead to end")
    before = notes.read_text().split() if notes.exists() else []
    state = run(walk(notes), START, thread_id="t", checkpointer=saver)
    assert state["steps"] == WALKED
    assert state["document"].endswith("end")
    runs = notes.read_text().split()
    repeated = {name for name in runs if runs.count(name) > 1}
    # A sibling node whose end was not recorded when the process died is not finished.
    assert repeated <= (
        {"left", "right"} & set(before) if killed_in in ("left", "right") else set()
    )
    again = run(walk(notes), START, thread_id="t", checkpointer=saver)
    assert again == state
    assert notes.read_text().split() == runs


def _is_free(saver: Checkpointer) -> bool:
    try:
        with saver.writing("t"):
            return True
    except ThreadBusy:
        return False


def test_two_runs_at_once_are_one(
    database: Database, tenant: UUID, saver: Checkpointer, tmp_path: Path
) -> None:
    """G-02: a redelivered job finds its thread busy."""
    notes = tmp_path / "notes"
    with saver.writing("t"), pytest.raises(ThreadBusy):
        run(walk(notes), START, thread_id="t", checkpointer=Checkpointer(database, tenant))
    assert not notes.exists()


def test_a_run_whose_wait_has_ended_stops_and_can_be_resumed(
    saver: Checkpointer, tmp_path: Path
) -> None:
    """G-02: the heartbeat is asked between nodes."""
    notes = tmp_path / "notes"
    answers: Iterator[bool] = iter([True, True, False])
    with pytest.raises(Abandoned):
        run(
            walk(notes),
            START,
            thread_id="t",
            checkpointer=saver,
            heartbeat=lambda: next(answers, False),
        )
    assert "join" not in notes.read_text()
    assert run(walk(notes), START, thread_id="t", checkpointer=saver)["steps"] == WALKED


def test_a_long_node_keeps_its_thread(
    database: Database, tenant: UUID, admin: Connection[DictRow]
) -> None:
    """G-02: lease and heartbeat are renewed while a node works longer than both."""
    beats: list[float] = []
    before: list[int] = []
    saver = Checkpointer(database, tenant)

    def slow(_: Walk) -> dict[str, Any]:
        before.append(len(beats))
        admin.execute(
            "update skald.checkpoint_threads set leased_until = now() - interval '1 s'"
            " where tenant_id = %s",
            [tenant],
        )
        wait_until(lambda: len(beats) > before[0] + 5, "heartbeats while it works")
        with pytest.raises(ThreadBusy), Checkpointer(database, tenant).writing("t"):
            pass
        return {}

    graph = StateGraph(Walk)
    graph.add_node("slow", RunnableLambda(slow))
    graph.add_edge(START_NODE, "slow")
    run(
        graph,
        START,
        thread_id="t",
        checkpointer=saver,
        heartbeat=lambda: beats.append(time.monotonic()),
        heartbeat_timeout=0.6,
    )
    gaps = [later - earlier for earlier, later in pairwise(beats[before[0] : before[0] + 6])]
    assert min(gaps) < 0.6, "the machine may stand still, but not each time"
