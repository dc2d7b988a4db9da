"""Handlers that return what a function sees. A zip of this file is a function's whole code."""

import json
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
    """Return the environment of the handler."""
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
        "clock": [time.time(), context.get_remaining_time_in_millis(), time.time()],
        "modules": sorted(sys.modules),
    }


def use_layers(event: Any, context: Any) -> dict[str, str]:
    """Return the contents of the layers of test_executor."""
    says = {name: import_module(name).SAYS for name in ("shared", "common.one", "common.two")}
    tool = subprocess.run(["layered-tool"], capture_output=True, text=True, check=True)  # noqa: S607
    return {**says, "tool": tool.stdout}


def linger(event: Any, context: Any) -> int:
    """Write the pid to the folder `event["pids"]`, sleep for `event["seconds"]`, return the pid.

    Before it sleeps it waits until the folder has `event["company"]` pids.
    """
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    for pid in (os.getpid(), child.pid):
        Path(event["pids"], str(pid)).touch()
    _await_company(event["pids"], event.get("company", 0))
    time.sleep(event["seconds"])
    child.kill()
    child.wait()
    return os.getpid()


def fail(event: Any, context: Any) -> None:
    """Raise."""
    raise LookupError("no such thing")


def leave(event: Any, context: Any) -> None:
    """End the process inside the invocation."""
    os._exit(event["status"])


def be_killed(event: Any, context: Any) -> None:
    """Kill the process by a signal."""
    os.kill(os.getpid(), event["signal"])
    time.sleep(5)


def answer_much(event: Any, context: Any) -> str:
    """Return `event["bytes"]` characters."""
    return "x" * int(event["bytes"])


def tick(event: Any, context: Any) -> int:
    """Wait for five more ticks of a background thread and return the pid."""
    if not _ticks:
        threading.Thread(target=_keep_ticking, daemon=True).start()
    enough = len(_ticks) + 5
    while len(_ticks) < enough:
        time.sleep(0.01)
    return os.getpid()


def _keep_ticking() -> None:
    while True:
        _ticks.append(time.monotonic())
        time.sleep(0.01)


def consume(event: Any, context: Any) -> None:
    """Write the begin to the message's folder, under its name, and wait until all have begun."""
    for record in event["Records"]:
        message = json.loads(record["body"])
        note = Path(message["folder"], message["name"])
        note.with_suffix(".draft").write_text(str(time.time()))
        note.with_suffix(".draft").rename(note)
        _await_company(message["folder"], message["company"])


def _await_company(folder: str, size: int) -> None:
    while len(list(Path(folder).iterdir())) < size:
        time.sleep(0.01)


def die_once(event: Any, context: Any) -> None:
    """Die at the first sight of the file that a message names; the second time, note the end."""
    for record in event["Records"]:
        file = Path(record["body"])
        if not file.exists():
            file.touch()
            os.kill(os.getpid(), 9)
            time.sleep(5)
        file.write_text("done")
