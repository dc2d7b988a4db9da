"""Background processes that outlive their command; pid files identify them."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pwd import struct_passwd

_PROC = Path("/proc/self/cmdline")


@dataclass(frozen=True)
class Daemon:
    """A background process, identified by its pid file and a marker in its command line.

    After a reboot another program may have the same pid; its command line has no such marker.
    """

    pid_file: Path
    log_file: Path
    marker: str

    def pid(self) -> int | None:
        """Return the pid if the process is alive, else None."""
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        # A child of this command that has ended is a zombie until it is waited for.
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return pid if self.marker in _settled_command_line(pid) else None

    def launch(
        self,
        command: Sequence[str | Path],
        environ: Mapping[str, str],
        user: struct_passwd | None = None,
    ) -> None:
        """Start the command in its own session, with its output in a new log file."""
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("wb") as log:
            process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        self.pid_file.write_text(str(process.pid))

    def stop(self, signal_number: int, patience: float) -> bool:
        """Stop the process, and kill it after `patience` seconds; return whether it was alive."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal_number)
            if not self.gone_within(patience):
                os.killpg(pid, signal.SIGKILL)
                self.gone_within(patience)
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def gone_within(self, seconds: float) -> bool:
        """Wait until the process has ended; return whether it ended in time."""
        deadline = time.monotonic() + seconds
        while self.pid() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _settled_command_line(pid: int) -> str:
    """Return the command line; wait if it is empty because a server rewrites its title."""
    for _ in range(20):
        line = command_line(pid)
        if line or not _is_live(pid):
            return line
        time.sleep(0.005)
    return ""


def _is_live(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def command_line(pid: int) -> str:
    """Return the command line of a live process; empty for a zombie or if there is none."""
    if _PROC.exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    listing = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.strip()
