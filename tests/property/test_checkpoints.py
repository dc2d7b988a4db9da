"""Properties of checkpoints: identity, heartbeat, resume or restart, size, history, failures."""

import operator
import time
from itertools import pairwise
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, StateGraph
from psycopg import Connection
from psycopg.rows import DictRow

from skald.checkpoints import Checkpointer, NeedsManualIntervention, run, store
from skald.checkpoints.values import COMPRESS_ABOVE, LONGEST_CHAIN, row_for
from skald.postgres import Database

texts = st.text(st.characters(codec="utf-8"), max_size=300)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
states = st.dictionaries(st.sampled_from(["plan", "notes", "findings"]), values, min_size=1)


class Tally(TypedDict):
    """The sum of the nodes that a graph has run: one node for each number."""

    seen: Annotated[list[int], operator.add]


class Broken(Exception):
    """The error of a node."""


def tally(numbers: list[int], breaks_at: int | None = None, runs: list[int] | None = None) -> Any:
    """Return a graph that adds the numbers, one node after the other."""
    graph = StateGraph(Tally)
    before = START
    for place, number in enumerate(numbers):

        def add(_: Tally, place: int = place, number: int = number) -> dict[str, Any]:
            if place == breaks_at:
                raise Broken
            if runs is not None:
                runs.append(place)
            return {"seen": [number]}

        graph.add_node(f"n{place}", add)  # type: ignore[call-overload]  # its defaults bind a loop
        graph.add_edge(before, f"n{place}")
        before = f"n{place}"
    graph.add_edge(before, END)
    return graph


def checkpoint(channels: dict[str, Any], version: int) -> Checkpoint:
    return empty_checkpoint() | {
        "id": str(uuid6()),
        "channel_values": channels,
        "channel_versions": dict.fromkeys(channels, version),
    }


def save_all(
    saver: Checkpointer, thread: str, history: list[dict[str, Any]]
) -> list[RunnableConfig]:
    config: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    configs = []
    with saver.writing(thread):
        for version, channels in enumerate(history, 1):
            versions: ChannelVersions = dict.fromkeys(channels, version)
            config = saver.put(config, checkpoint(channels, version), {"step": version}, versions)
            configs.append(config)
    return configs


numbers = st.lists(st.integers(0, 99), min_size=1, max_size=4)


@given(numbers=numbers, execution=st.uuids())
def test_identity(database: Database, numbers: list[int], execution: UUID) -> None:
    """G-03: the state under the execution's id is the agent's latest.

    **功能: architecture-deep-integration, 属性 1: 状态标识一致性**
    **验证: 需求 1.1, 1.5**
    """
    saver = Checkpointer(database, uuid4())
    ended = run(tally(numbers), {"seen": []}, thread_id=str(execution), checkpointer=saver)
    assert ended == {"seen": numbers}
    assert saver.state(str(execution)) == ended


@given(numbers=numbers)
def test_heartbeat(database: Database, numbers: list[int]) -> None:
    """
    **功能: architecture-deep-integration, 属性 2: Activity 心跳进度报告**
    **验证: 需求 1.2**
    """
    beats: list[float] = []
    timeout = 30.0
    run(
        tally(numbers),
        {"seen": []},
        thread_id="t",
        checkpointer=Checkpointer(database, uuid4()),
        heartbeat=lambda: beats.append(time.monotonic()),
        heartbeat_timeout=timeout,
    )
    assert len(beats) >= len(numbers) + 1
    gaps = [after - before for before, after in pairwise(beats)]
    assert max(gaps) <= timeout / 2


@given(numbers=numbers, data=st.data(), is_corrupt=st.booleans())
def test_resume_or_restart(
    database: Database,
    admin: Connection[DictRow],
    numbers: list[int],
    data: st.DataObject,
    is_corrupt: bool,
) -> None:
    """
    **功能: architecture-deep-integration, 属性 3: 重试策略决策正确性**
    **验证: 需求 1.4**
    """
    tenant = uuid4()
    saver = Checkpointer(database, tenant)
    broken = data.draw(st.integers(0, len(numbers) - 1))
    runs: list[int] = []
    with pytest.raises(Broken):
        run(tally(numbers, broken, runs), {"seen": []}, thread_id="t", checkpointer=saver)
    if is_corrupt:
        admin.execute(
            "update skald.checkpoints set state = state || 'x' where tenant_id = %s", [tenant]
        )
    ended = run(tally(numbers, None, runs), {"seen": []}, thread_id="t", checkpointer=saver)
    assert ended == {"seen": numbers}
    everything = list(range(len(numbers)))
    assert runs == (everything[:broken] + everything if is_corrupt else everything)


@given(base=states, added=texts, growth=st.integers(2, 40))
def test_small_changes_are_differences(
    database: Database, admin: Connection[DictRow], base: dict[str, Any], added: str, growth: int
) -> None:
    """
    **功能: architecture-deep-integration, 属性 16: 检查点存储效率**
    **验证: 需求 9.1, 9.3**
    """
    tenant = uuid4()
    saver = Checkpointer(database, tenant)
    log = [f"{number} {added}" + "." * 300 for number in range(growth)]
    history = [base | {"log": log[:length]} for length in range(1, growth + 1)]
    configs = save_all(saver, "t", history)
    rows = admin.execute(
        "select is_delta from skald.checkpoint_values"
        " where tenant_id = %s and channel = 'log' order by checkpoint_id",
        [tenant],
    ).fetchall()
    whole = [number for number, row in enumerate(rows) if not row["is_delta"]]
    # The second state is half as large again, so differences pay from the third on.
    assert set(whole) <= {0, 1} | set(range(LONGEST_CHAIN, growth))
    assert [_channels(saver, config) for config in configs] == history


@given(filler=st.binary(min_size=1, max_size=64))
def test_large_states_are_compressed(filler: bytes) -> None:
    """
    **功能: architecture-deep-integration, 属性 16: 检查点存储效率**
    **验证: 需求 9.1, 9.3**
    """
    for size in (COMPRESS_ABOVE, COMPRESS_ABOVE + 1):
        content = (filler * (size // len(filler) + 1))[:size]
        row, _ = row_for(content, None)
        assert row.stored.is_compressed == (size > COMPRESS_ABOVE)
        assert row.stored.verified() == content
        assert row.stored.data_size_bytes == len(row.stored.data)


def _channels(saver: Checkpointer, config: RunnableConfig) -> dict[str, Any]:
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


@given(history=st.lists(states, min_size=1, max_size=6))
def test_any_checkpoint_can_be_restored(database: Database, history: list[dict[str, Any]]) -> None:
    """
    **功能: architecture-deep-integration, 属性 17: 历史检查点恢复**
    **验证: 需求 9.2**
    """
    tenant = uuid4()
    configs = save_all(Checkpointer(database, tenant), "t", history)
    reader = Checkpointer(database, tenant)
    assert [_channels(reader, config) for config in configs] == history
    listed = reader.list({"configurable": {"thread_id": "t"}})
    assert [found.checkpoint["channel_values"] for found in listed] == history[::-1]


@given(failures=st.integers(0, 5), state=states)
def test_saves_are_tried_three_times(
    database: Database, failures: int, state: dict[str, Any]
) -> None:
    """
    **功能: architecture-deep-integration, 属性 18: 检查点保存重试**
    **验证: 需求 9.4**
    """
    saver = Checkpointer(database, uuid4())
    left = [failures]
    save = store.save

    def failing(*arguments: Any, **named: Any) -> bool:
        if left[0] > 0:
            left[0] -= 1
            raise psycopg.OperationalError("lost")
        return save(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "save", failing)
        patch.setattr("skald.checkpoints.writers._PAUSE_SECONDS", 0.0)
        if failures < 3:
            (config,) = save_all(saver, "t", [state])
            assert _channels(saver, config) == state
            return
        with pytest.raises(NeedsManualIntervention):
            save_all(saver, "t", [state])
        assert left[0] == failures - 3
        with pytest.raises(NeedsManualIntervention, match="parked"):
            save_all(saver, "t", [state])
