"""Collects the output of a function, per invocation and in a file."""

import os
import select
from pathlib import Path
from threading import Lock, Thread

_CHUNK = 65536


class FunctionLog:
    """Reads the pipe to which a function's process writes stdout and stderr."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._file = file
        self._collected = bytearray()
        self._lock = Lock()
        self._ended = False

    def follow(self) -> None:
        """Start to read; by now the process has its own copy of the writing end."""
        os.close(self.writer)
        Thread(target=self._follow, name="function-log", daemon=True).start()

    def note(self, line: str) -> None:
        """Add a line of the platform, after everything that the function has printed so far."""
        with self._lock:
            self._drain()
            self._keep(line.encode())

    def take(self) -> str:
        """Return the output since the last call.

        A function prints before it answers. So when its answer arrives, its output is already in
        the pipe, and nothing is missed here.
        """
        with self._lock:
            self._drain()
            text = self._collected.decode(errors="replace")
            self._collected.clear()
            return text

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while not self._ended:
            poll.poll()
            with self._lock:
                self._drain()
        os.close(self._reader)

    def _drain(self) -> None:
        while not self._ended:
            try:
                chunk = os.read(self._reader, _CHUNK)
            except BlockingIOError:
                return
            self._ended = not chunk
            self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        self._collected += chunk
        # Several environments share the file; one append per chunk keeps their lines whole.
        with self._file.open("ab", buffering=0) as file:
            # The runtime joins the lines of a traceback by \r, so that CloudWatch has one entry.
            file.write(chunk.replace(b"\r", b"\n"))
