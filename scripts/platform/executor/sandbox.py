"""An execution environment: keeps a process warm, and replaces it when it has ended."""

import shutil
import time
from datetime import UTC, datetime
from queue import Empty
from threading import Lock

from .folders import merged
from .outcome import Outcome, Report, exited, response_too_large, returned_error, timed_out
from .process import Function, FunctionProcess, Platform
from .runtime_api import Event, Exited, InitFailed, Invocation, Returned

# AWS gives the initialisation ten seconds. After that, it starts the initialisation again, within
# the timeout of the function.
INIT_ALLOWANCE = 10.0


class SandboxStoppedError(Exception):
    """The environment is stopped, and accepts no more invocations."""


class Sandbox:
    """Serves one invocation at a time; another thread may call `stop` at any moment."""

    def __init__(self, identifier: str, function: Function, platform: Platform) -> None:
        self._function = function
        self._platform = platform
        self._home = platform.work / "environments" / identifier
        self._process: FunctionProcess | None = None
        self._born = 0.0
        self._ready = False
        self._stopped = False
        self._change = Lock()
        self._busy = Lock()

    def start(self) -> FunctionProcess:
        """Start the process without waiting for its initialisation."""
        with self._change:
            if self._stopped:
                raise SandboxStoppedError
            tmp = self._home / "tmp"
            tmp.mkdir(parents=True, exist_ok=True)
            opt = merged(self._function.layers, self._platform.work / "opt")
            self._born, self._ready = time.monotonic(), False
            self._process = FunctionProcess(self._function, self._platform, opt, tmp)
            self._process.log.note("INIT_START Runtime Version: python:3.13\n")
            return self._process

    def invoke(
        self, request_id: str, payload: bytes, arn: str, trace_id: str
    ) -> tuple[Outcome, str]:
        """Run the function on one event; return its outcome and its log."""
        with self._busy:
            process = self._process
            if process is None or process.over:
                process = self.start()
            init_duration, outcome = self._initialise(process, request_id)
            process.log.note(f"START RequestId: {request_id} Version: {self._function.version}\n")
            begun = time.monotonic()
            if outcome is None:
                deadline = int((time.time() + self._function.timeout) * 1000)
                invocation = Invocation(request_id, payload, arn, trace_id, deadline)
                outcome = self._run(process, invocation)
            self._report(process, request_id, time.monotonic() - begun, init_duration, outcome)
            return outcome, process.log.take()

    def stop(self, patience: float = 0) -> None:
        """Kill the process; a running invocation has `patience` seconds to finish."""
        finished = self._busy.acquire(timeout=patience)
        with self._change:
            self._stopped = True
            if self._process:
                self._process.kill()
        if finished:
            self._busy.release()
        shutil.rmtree(self._home, ignore_errors=True)

    def _initialise(
        self, process: FunctionProcess, request_id: str
    ) -> tuple[float | None, Outcome | None]:
        """Wait until the runtime is ready; return its seconds, and the outcome of a failure.

        Both are None for a warm start.
        """
        if self._ready:
            return None, None
        allowance = INIT_ALLOWANCE + self._function.timeout
        event = _next_event(process, allowance)
        duration = time.monotonic() - self._born
        match event:
            case InitFailed(payload):
                process.kill()
                return duration, returned_error(payload)
            case Exited(status):
                return duration, exited(request_id, status)
            case None:
                process.kill()
                return duration, timed_out(request_id, allowance)
        self._ready = True
        return duration, None

    def _run(self, process: FunctionProcess, invocation: Invocation) -> Outcome:
        process.api.submit(invocation)
        match _next_event(process, self._function.timeout):
            case Returned(payload=None):
                process.kill()
                return response_too_large(self._function.max_payload)
            case Returned(payload=bytes(payload), failed=failed):
                return returned_error(payload) if failed else Outcome(payload)
            case Exited(status):
                return exited(invocation.request_id, status)
        return self._time_out(process, invocation)

    def _time_out(self, process: FunctionProcess, invocation: Invocation) -> Outcome:
        process.kill()
        seconds = self._function.timeout
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        process.log.note(
            f"{now} {invocation.request_id} Task timed out after {seconds:.2f} seconds\n\n"
        )
        return timed_out(invocation.request_id, seconds)

    def _report(
        self,
        process: FunctionProcess,
        request_id: str,
        duration: float,
        init_duration: float | None,
        outcome: Outcome,
    ) -> None:
        allowed, used = self._function.memory_mb, process.peak_memory_mb()
        report = Report(request_id, duration, allowed, used, init_duration, outcome.error_type)
        if used is not None and used > allowed:
            process.log.note(
                f"WARNING: {used} MB used, {allowed} MB allowed: AWS would have killed it\n"
            )
        process.log.note(f"END RequestId: {request_id}\n{report.line()}")


def _next_event(process: FunctionProcess, seconds: float) -> Event | None:
    try:
        return process.api.events.get(timeout=seconds)
    except Empty:
        return None
