"""One process of a function, with its Runtime API."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread

from .guardian import Guardian
from .log import FunctionLog
from .runtime_api import Exited, RuntimeApi

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Function:
    """A function version; timeout in seconds, memory in MB, payload limit in bytes."""

    name: str
    version: str
    timeout: float
    memory_mb: int
    code: Path
    layers: tuple[Path, ...]
    variables: Mapping[str, str] = field(repr=False)
    max_payload: int


@dataclass(frozen=True)
class Platform:
    """What all functions share: the interpreter, Lambda's packages, folders and the guardian."""

    python: str
    runtime: Path
    logs: Path
    work: Path
    guardian: Guardian
    freeze: bool = True


class FunctionProcess:
    """One process from its start to its end; it is never reused."""

    def __init__(self, function: Function, platform: Platform, opt: Path, tmp: Path) -> None:
        self._guardian = platform.guardian
        self._freezes = platform.freeze
        self._signals = Lock()
        self._over = Event()
        self.log = FunctionLog(platform.logs / f"{function.name}.log")
        self.api = RuntimeApi(self._freeze, self._thaw, function.max_payload)
        self._process = subprocess.Popen(
            _command(function, platform, opt),
            env=_environment(function, opt, tmp, self.api.address),
            cwd=function.code,
            stdin=subprocess.DEVNULL,
            stdout=self.log.writer,
            stderr=self.log.writer,
            start_new_session=True,
        )
        self._guardian.started(self._process.pid)
        self.log.follow()
        Thread(target=self._await_end, name="function-end", daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether the process has ended, even if its end is not handled yet."""
        with self._signals:
            return self._over.is_set() or _has_exited(self._process.pid)

    def kill(self) -> None:
        """Kill the process and its children, and wait until they have ended."""
        self._signal(signal.SIGKILL)
        self._over.wait()

    def peak_memory_mb(self) -> int | None:
        """Return the peak memory of the process in MB, or None if unknown (not on Linux)."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        peak = next((row for row in status.splitlines() if row.startswith("VmHWM:")), None)
        return int(peak.split()[1]) // 1024 if peak else None

    def _await_end(self) -> None:
        # The leader stays a zombie until its group is killed. Until then, the system cannot reuse
        # the number of the group, so the signal cannot reach another program.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)
        with self._signals:
            status = self._process.wait()
            self._over.set()
        self._guardian.ended(self._process.pid)
        self.api.events.put(Exited(status))
        self.api.close()

    def _freeze(self) -> None:
        if self._freezes:
            self._signal(signal.SIGSTOP)

    def _thaw(self) -> None:
        if self._freezes:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # macOS returns EPERM for a group of zombies.
        with self._signals, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._over.is_set():
                os.killpg(self._process.pid, number)


def _has_exited(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _command(function: Function, platform: Platform, opt: Path) -> list[str]:
    paths = (function.code, opt, platform.runtime, _HERE / "fallback")
    return [platform.python, "-I", "-S", str(_HERE / "launch.py"), *map(str, paths)]


def _environment(function: Function, opt: Path, tmp: Path, api: str) -> dict[str, str]:
    """Return the variables that Lambda sets for a function; nothing is inherited."""
    python = "python3.13"
    return {
        "PATH": f"{opt}/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "LD_LIBRARY_PATH": f"{function.code}:{function.code}/lib:{opt}/lib",
        "PYTHONPATH": f"{opt}/python/lib/{python}/site-packages:{opt}/python",
        "HOME": str(tmp),
        "TMPDIR": str(tmp),
        **function.variables,
        "AWS_LAMBDA_RUNTIME_API": api,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{python}",
        "LAMBDA_TASK_ROOT": str(function.code),
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }
