"""Handles of worker processes: they send orders, read answers, freeze and kill the process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.integration.conftest import Servers

ROOT = Path(__file__).parents[3]
_PATHS = ("functions", "layers/core", "scripts", "scripts/platform", ".")


class Refused(Exception):
    """The code of the problem that a worker raised."""


class Process:
    """A worker process: `process("get", "a")` runs `Worker.get("a")` in it."""

    def __init__(self, servers: Servers, tenant: UUID) -> None:
        self._process = subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, "-m", "tests.integration.valkey.worker", str(tenant)],
            cwd=ROOT,
            env=os.environ
            | {
                "POSTGRES_DSN": servers.app_dsn,
                "REDIS_DSN": servers.redis_dsn,
                "PYTHONPATH": ":".join(str(ROOT / path) for path in _PATHS),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, name: str, *arguments: object) -> Any:
        """Send an order and return the answer. Raises `Refused` for a problem, `EOFError` at the
        end."""
        self.order(name, *arguments)
        return self.answer()

    def order(self, name: str, *arguments: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout
        for line in self._process.stdout:  # between answers the worker logs
            if line.startswith("=> "):
                outcome = json.loads(line[3:])
                if "problem" in outcome:
                    raise Refused(outcome["problem"])
                return outcome["answer"]
        raise EOFError

    def freeze(self) -> None:
        """Stop the process as Lambda does, and wait until it has stopped."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
