"""Properties 19 to 21: external events, progress, limited child work."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from skald.postgres import Database
from skald.saga import signals, tokens
from skald.saga.progress import WorkflowProgress
from skald.valkey.semaphore import Semaphore

payloads = st.dictionaries(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10),
    st.integers() | st.booleans() | st.none(),
    max_size=4,
)


class Machines:
    """A fake of Step Functions: it accepts each token once."""

    class exceptions:  # noqa: N801  # as boto3 calls it
        TaskTimedOut = TaskDoesNotExist = InvalidToken = KeyError

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.woken: dict[str, Any] = {}

    def send_task_success(self, taskToken: str, output: str) -> None:  # noqa: N803
        self.waiting.remove(taskToken)
        self.woken[taskToken] = json.loads(output)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    machines = Machines()
    monkeypatch.setattr(tokens, "client", lambda _: machines)
    return machines


@given(
    payload=payloads,
    order=st.permutations(["send", "wait"]).flatmap(
        lambda order: st.lists(st.sampled_from(order), max_size=4).map(lambda more: order + more)
    ),
)
def test_a_waiting_workflow_gets_its_event(
    database: Database, machines: Machines, payload: dict[str, Any], order: list[str]
) -> None:
    """
    **功能: architecture-deep-integration, 属性 19: Redis 事件接收**
    **验证: 需求 10.1**
    """
    tenant, token = uuid4(), str(uuid4())
    machines.waiting.add(token)
    for action in order:
        with database.transaction(tenant) as tx:
            if action == "send":
                signals.send(database, tx, "w", "event", payload)
            else:
                signals.wait(database, tx, "w", "event", token)
    assert machines.woken[token] == payload


steps = st.lists(
    st.tuples(
        st.sampled_from(["parse", "grade", "publish"]),
        st.floats(0, 100),
        st.sampled_from(["keep", "flush"]),
    ),
    min_size=1,
    max_size=6,
)


@given(steps=steps)
def test_progress_tells_stage_percentage_and_time(
    database: Database, valkey: redis.Redis, steps: list[tuple[str, float, str]]
) -> None:
    """
    **功能: architecture-deep-integration, 属性 20: 工作流进度查询**
    **验证: 需求 10.2**
    """
    tenant, progress = uuid4(), WorkflowProgress(valkey)
    expected, changed_at = ("", -1.0), None
    for stage, percentage, redis_fate in steps:
        with database.transaction(tenant) as tx:
            progress.report(tx, "w", stage, percentage)
        if percentage >= expected[1]:
            expected = (stage, percentage)
        if redis_fate == "flush":
            valkey.delete(f"workflow_state:{tenant}:w")
        found = progress.find(database, tenant, "w")
        assert found is not None
        assert (found.stage, found.percentage) == expected
        assert changed_at is None or found.updated_at >= changed_at
        changed_at = found.updated_at


class Children:
    """Child work that counts how much of it runs at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = self.most = self.done = 0
        self._lock = threading.Lock()
        self._too_many = threading.Event()

    def run(self, semaphore: Semaphore) -> None:
        with semaphore.held(wait_seconds=30):
            with self._lock:
                self.running += 1
                self.most = max(self.most, self.running)
                if self.running > self.limit:
                    self._too_many.set()
            self._too_many.wait(0.005)  # time enough for one more to start
            with self._lock:
                self.running -= 1
                self.done += 1


@given(children=st.integers(1, 8), max_concurrent=st.integers(1, 4))
def test_child_work_is_bounded(valkey: redis.Redis, children: int, max_concurrent: int) -> None:
    """
    **功能: architecture-deep-integration, 属性 21: 批量子工作流并发控制**
    **验证: 需求 10.3**
    """
    work, name = Children(max_concurrent), f"children:{uuid4()}"
    with ThreadPoolExecutor(children) as pool:
        for future in [
            pool.submit(work.run, Semaphore(valkey, name, max_concurrent)) for _ in range(children)
        ]:
            future.result()
    assert work.most <= max_concurrent
    assert work.done == children
