"""Kills the functions' processes when LocalStack is gone, however it went.

Runs as a process of its own, standard input connected to LocalStack: "+7" and "-7" tell that
process group 7 was started or has ended. When LocalStack dies the input ends. Linux could kill a
child with its parent (PR_SET_PDEATHSIG), but there "parent" is the thread that started the child,
and LocalStack's threads come and go; macOS has nothing like it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Lock


class Guardian:
    """LocalStack's end of the connection."""

    def __init__(self, pid_file: Path) -> None:
        self._lock = Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid_file.write_text(str(self._process.pid))

    def started(self, group: int) -> None:
        """Watch over a process group."""
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """Forget a process group that is gone."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guardian, and with it every process that is left."""
        with self._process:  # closes its input and waits
            pass

    def _tell(self, message: str) -> None:
        pipe = self._process.stdin
        if pipe is None:
            raise RuntimeError("the guardian has no input")
        with self._lock:
            pipe.write(message)
            pipe.flush()


def watch(messages: Iterable[str]) -> None:
    """Follow the messages to their end, then kill every group that has not ended."""
    alive: set[int] = set()
    for message in messages:
        group = int(message[1:])
        if message[0] == "+":
            alive.add(group)
        else:
            alive.discard(group)
    for group in alive:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    watch(sys.stdin)
