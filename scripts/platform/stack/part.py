"""The base class of the servers of the platform: PostgreSQL, Valkey and LocalStack."""

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import StackError
from .process import Daemon
from .settings import HOST


@dataclass(frozen=True)
class Condition:
    """The state of a part: one row of `scripts/stack status`."""

    state: str
    pid: int | None = None

    @property
    def up(self) -> bool:
        """Whether the part can be used."""
        return self.state in {"up", "yours, up"}


class Part(ABC):
    """One server: our embedded one, or the user's own if the environment has its address."""

    name: str
    replaced_by: str  # variable with the address of the user's own server
    port_variable: str
    port: int
    external: str | None
    daemon: Daemon
    stop_signal = signal.SIGTERM
    patience = 30.0
    stop_patience = 10.0

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """The address to show, without a password."""

    @abstractmethod
    def launch(self) -> None:
        """Start the process; do not wait until it answers."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers a real request."""

    def finish(self) -> None:  # noqa: B027 (most parts need nothing more)
        """Complete the setup after the server answers."""

    def condition(self) -> Condition:
        """Return the state: does the process run, and does it answer?"""
        if self.external:
            return Condition("yours, up" if self.answers() else "yours, does not answer")
        pid = self.daemon.pid()
        if pid is None:
            return Condition("down")
        return Condition("up" if self.answers() else "does not answer", pid)

    def require_free_port(self) -> None:
        """Raise `StackError` if another program listens on the port."""
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((HOST, self.port)) == 0:
                raise StackError(
                    f"{self.name} cannot start: port {self.port} is taken by another program; "
                    f"set {self.port_variable} to a free port"
                )

    def wait(self) -> None:
        """Wait until the server answers; raises `StackError` if it ends or takes too long."""
        deadline = time.monotonic() + self.patience
        while not self.answers():
            if not self.external and self.daemon.pid() is None:
                raise StackError(f"{self.name} stopped while starting: {self._last_words()}")
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} at {self.endpoint} did not answer within {self.patience:.0f} s"
                )
            time.sleep(0.05)

    def stop(self) -> bool:
        """Stop the process and wait until it has ended; return whether it ran."""
        return self.daemon.stop(self.stop_signal, self.stop_patience)

    def _last_words(self) -> str:
        lines = self.daemon.log_file.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it left no message")


def unless_ours(address: str | None, ours: str) -> str | None:
    """Return the user's address, or None if it is the address of the embedded server.

    `scripts/stack env` prints the latter. A shell that has evaluated it can still run `up` and
    `down`.
    """
    return None if address == ours else address


def plain_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return a server's environment: `extra`, and only PATH, HOME and LANG of the user's shell."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return inherited | dict(extra)
