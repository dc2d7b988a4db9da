"""The outcomes of an invocation, in the words of AWS Lambda."""

import json
import math
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """The response of an invocation to its caller; `error_type` is empty for a success."""

    payload: bytes
    error_type: str = ""


def returned_error(payload: bytes) -> Outcome:
    """Return the outcome for an error document that the runtime has written."""
    try:
        document = json.loads(payload)
    except ValueError:
        document = None
    named = document.get("errorType") if isinstance(document, dict) else None
    return Outcome(payload, named or "Unhandled")


def timed_out(request_id: str, seconds: float) -> Outcome:
    """Return the outcome of an invocation that was killed at the function's timeout."""
    message = f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds"
    return _failure("Sandbox.Timedout", message)


def exited(request_id: str, status: int) -> Outcome:
    """Return the outcome of a process that ended; `status` is negative for a signal."""
    if status == 0:
        reason = "Runtime exited without providing a reason"
    elif status > 0:
        reason = f"Runtime exited with error: exit status {status}"
    else:
        name = signal.strsignal(-status) or f"signal {-status}"
        reason = f"Runtime exited with error: signal: {name.lower()}"
    return _failure("Runtime.ExitError", f"RequestId: {request_id} Error: {reason}")


def response_too_large(limit: int) -> Outcome:
    """Return the outcome of a response over the payload limit in bytes."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return _failure("Function.ResponseSizeTooLarge", message)


@dataclass(frozen=True)
class Report:
    """The numbers of a REPORT line; durations in seconds, memory in MB."""

    request_id: str
    duration: float
    memory_size: int
    memory_used: int | None
    init_duration: float | None
    error_type: str

    def line(self) -> str:
        """Return the line in Lambda's format."""
        fields = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {self.duration * 1000:.2f} ms",
            f"Billed Duration: {math.ceil(self.duration * 1000)} ms",
            f"Memory Size: {self.memory_size} MB",
        ]
        if self.memory_used is not None:
            fields.append(f"Max Memory Used: {self.memory_used} MB")
        if self.init_duration is not None:
            fields.append(f"Init Duration: {self.init_duration * 1000:.2f} ms")
        if self.error_type == "Sandbox.Timedout":
            fields.append("Status: timeout")
        elif self.error_type:
            fields.append(f"Status: error\tError Type: {self.error_type}")
        return "\t".join(fields) + "\n"


def _failure(error_type: str, message: str) -> Outcome:
    document = {"errorType": error_type, "errorMessage": message}
    return Outcome(json.dumps(document).encode(), error_type)
