"""Handlers that show a test what a function sees; zipped as a function's whole code."""

import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

print("probe imported")

_calls = 0
_ticks: list[float] = []


def see(event: Any, context: Any) -> dict[str, Any]:
    """Return what surrounds the handler."""
    global _calls
    _calls += 1
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return {
        "event": event,
        "pid": os.getpid(),
        "calls": _calls,
        "environ": dict(os.environ),
        "path": sys.path,
        "cwd": str(Path.cwd()),
        "arn": context.invoked_function_arn,
        "request_id": context.aws_request_id,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "modules": sorted(sys.modules),
    }


def use_layers(event: Any, context: Any) -> dict[str, str]:
    """Return what the layers of test_executor hold."""
    says = {name: import_module(name).SAYS for name in ("shared", "common.one", "common.two")}
    tool = subprocess.run(["layered-tool"], capture_output=True, text=True, check=True)  # noqa: S607
    return {**says, "tool": tool.stdout}


def linger(event: Any, context: Any) -> int:
    """Leave pids in the folder `event["pids"]`, sleep for `event["seconds"]`, return the pid."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    for pid in (os.getpid(), child.pid):
        Path(event["pids"], str(pid)).touch()
    time.sleep(event["seconds"])
    child.kill()
    child.wait()
    return os.getpid()


def fail(event: Any, context: Any) -> None:
    """Raise."""
    raise LookupError("no such thing")


def leave(event: Any, context: Any) -> None:
    """End the process under the runtime's feet."""
    os._exit(event["status"])


def be_killed(event: Any, context: Any) -> None:
    """End the process by a signal."""
    os.kill(os.getpid(), event["signal"])
    time.sleep(5)


def answer_much(event: Any, context: Any) -> str:
    """Return `event["bytes"]` characters."""
    return "x" * int(event["bytes"])


def tick(event: Any, context: Any) -> float:
    """Return the longest pause so far of a background thread that should run every 10 ms."""
    if not _ticks:
        threading.Thread(target=_keep_ticking, daemon=True).start()
        time.sleep(0.05)
    return max((b - a for a, b in zip(_ticks, [*_ticks[1:], time.monotonic()], strict=True)))


def _keep_ticking() -> None:
    while True:
        _ticks.append(time.monotonic())
        time.sleep(0.01)


def consume(event: Any, context: Any) -> None:
    """Write begin and end of handling each message to the file the message names."""
    begun = time.time()
    time.sleep(0.4)
    for record in event["Records"]:
        Path(record["body"]).write_text(f"{begun} {time.time()}")
