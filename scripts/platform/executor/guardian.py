"""Kills the functions' processes when LocalStack has ended, even by SIGKILL.

The guardian is a separate process; its standard input is connected to LocalStack. "+7" and "-7"
mean that process group 7 was started or has ended. When LocalStack dies, the input ends. Linux can
kill a child together with its parent (PR_SET_PDEATHSIG). But that "parent" is the thread that
started the child, and LocalStack's threads end before LocalStack does. macOS has no such signal.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Lock


class Guardian:
    """Starts the guardian process, and sends it messages from LocalStack."""

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
        """Add a process group to those that the guardian kills at the end."""
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """Remove a process group that has ended."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guardian, which kills all remaining processes."""
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
    """Read the messages until they end, then kill every group that has not ended."""
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
