"""Functions run with and without the native module of awslambdaric, which macOS does not have."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from executor.guardian import Guardian
from executor.process import Function, FunctionProcess, Platform
from executor.sandbox import Sandbox

from .conftest import ROOT, alive, wait_until

RUNTIME = ROOT / ".local" / "lambda-runtime"
CODE = """
import os
import runtime_client

def handle(event, context):
    if event["wish"] == "error":
        raise ValueError(event["wish"])
    told = {"module": runtime_client.__file__, "pid": os.getpid()}
    return told | {"event": event, "id": context.aws_request_id}
"""


@pytest.fixture(params=[True, False], ids=["native", "pure-python"])
def native(request: pytest.FixtureRequest) -> bool:
    """Whether the native module is there."""
    if request.param and not list(RUNTIME.glob("runtime_client.*")):
        pytest.skip("this system has no native module")
    return bool(request.param)


@pytest.fixture
def sandbox(native: bool, platform: object, tmp_path: Path) -> Iterator[Sandbox]:
    """An execution environment without LocalStack."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "client.py").write_text(CODE)
    function = Function(
        name="client",
        version="$LATEST",
        timeout=60,
        memory_mb=128,
        code=code,
        layers=(),
        variables={"_HANDLER": "client.handle"},
        max_payload=6 << 20,
    )
    guardian = Guardian(tmp_path / "guardian.pid")
    sandbox = Sandbox("test", function, _platform(guardian, native, tmp_path))
    yield sandbox
    sandbox.stop()
    guardian.close()


def _platform(guardian: Guardian, native: bool, folder: Path) -> Platform:
    python = getattr(sys, "_base_executable", sys.executable)
    runtime = RUNTIME if native else _without_native_module(folder / "runtime")
    return Platform(python, runtime, folder / "logs", folder / "work", guardian)


def _without_native_module(copy: Path) -> Path:
    copy.mkdir()
    for path in RUNTIME.iterdir():
        if not path.name.startswith("runtime_client."):
            (copy / path.name).symlink_to(path)
    return copy


def _invoke(sandbox: Sandbox, event: object) -> tuple[str, dict[str, object]]:
    payload = json.dumps(event, ensure_ascii=False).encode()
    outcome, _ = sandbox.invoke("id-1", payload, "arn:aws:lambda:us-east-1:0:function:x", "Root=1")
    return outcome.error_type, json.loads(outcome.payload)


def test_events_and_results_pass(sandbox: Sandbox, native: bool) -> None:
    error_type, answer = _invoke(sandbox, {"wish": "ä"})
    assert error_type == ""
    assert answer["event"] == {"wish": "ä"}
    assert answer["id"] == "id-1"
    assert str(answer["module"]).endswith(".so") is native


def test_errors_pass(sandbox: Sandbox) -> None:
    for _ in range(2):  # the second time on the same connection
        error_type, answer = _invoke(sandbox, {"wish": "error"})
        assert error_type == answer["errorType"] == "ValueError"


def test_a_death_that_was_not_noticed_yet_is_seen(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed, await_end = Event(), FunctionProcess._await_end

    def await_end_late(process: FunctionProcess) -> None:
        noticed.wait(60)
        await_end(process)

    monkeypatch.setattr(FunctionProcess, "_await_end", await_end_late)
    _, first = _invoke(sandbox, {"wish": ""})
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    wait_until(lambda: not alive(int(str(first["pid"]))), "its end")
    error_type, second = _invoke(sandbox, {"wish": ""})
    noticed.set()
    assert (error_type, second["pid"] != first["pid"]) == ("", True)
