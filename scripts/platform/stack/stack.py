"""Starts, stops and resets all parts together."""

import fcntl
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .connections import publish
from .errors import StackError
from .localstack import LocalStack
from .part import Part
from .postgres import Postgres
from .settings import Settings
from .valkey import Valkey


class Stack:
    """The platform of one state folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.parts: list[Part] = [Postgres(settings), Valkey(settings), LocalStack(settings)]

    def up(self) -> None:
        """Start the parts that do not run; on failure, stop those that this call started."""
        begun = time.monotonic()
        with self._alone():
            started: list[Part] = []
            try:
                self._start(started)
            except BaseException:
                for part in reversed(started):
                    part.stop()
                raise
            publish(self._settings)
        _say(f"up in {time.monotonic() - begun:.1f} s")

    def down(self) -> None:
        """Stop all embedded parts, and wait until they have ended."""
        with self._alone():
            for part in reversed(self.parts):
                begun = time.monotonic()
                if part.stop():
                    _say(f"{part.name} stopped ({time.monotonic() - begun:.1f} s)")

    def reset(self) -> None:
        """Stop the parts, and delete the data of the parts and of this package."""
        self.down()
        for name in ("postgres", "valkey", "localstack", "logs", "run"):
            shutil.rmtree(self._settings.state / name, ignore_errors=True)
        (self._settings.state / "database-password").unlink(missing_ok=True)
        _say("state deleted")

    def _start(self, started: list[Part]) -> None:
        # LocalStack takes longest, so it starts first, and the others start in parallel.
        waiting = [part for part in reversed(self.parts) if self._needs_start(part)]
        for part in waiting:
            part.require_free_port()
        for part in waiting:
            _say(f"starting {part.name} on {part.endpoint}")
            started.append(part)
            part.launch()
        begun = time.monotonic()
        for part in self.parts:
            part.wait()
            part.finish()
            if part in waiting:
                _say(f"{part.name} answers after {time.monotonic() - begun:.1f} s")

    def _needs_start(self, part: Part) -> bool:
        condition = part.condition()
        if condition.up:
            _say(f"{part.name} is {condition.state} at {part.endpoint}")
            return False
        if part.external:
            raise StackError(f"{part.replaced_by} is set, but {part.endpoint} does not answer")
        part.stop()  # a process that runs but does not answer
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # Without the lock, two commands could start two servers on one data folder.
        self._settings.run.mkdir(parents=True, exist_ok=True)
        with (self._settings.run.parent / "stack.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
