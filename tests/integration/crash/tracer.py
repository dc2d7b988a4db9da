"""Finds the boundaries that a process crosses, and kills the process at one of them.

A boundary is where the kernel commits, calls AWS (sends, acknowledges, changes something outside)
or answers. All code crosses it through a `Transaction`, botocore or `Tracer.cross`, so a new
boundary is found without a change here.
"""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, cast

from botocore.client import BaseClient

from skald.postgres import Transaction
from skald.postgres.interface import Reply, Statement

type Moment = Literal["before", "after"]
type Call = Callable[[str, dict[str, Any]], dict[str, Any]]

_OURS = ("skald.", "operations.", "batches.", "tests.integration.crash.scenarios")
_CARRIERS = "skald.postgres."


@dataclass(frozen=True)
class Death:
    """Where a process dies: right before or right after its boundary of this number."""

    number: int
    moment: Moment


class Tracer:
    """Reports each boundary in order before it is crossed, and dies at the chosen one."""

    def __init__(self, tell: Callable[[str], None], death: Death | None) -> None:
        self._tell = tell
        self._death = death
        self._numbers = count()

    def watch(self, aws: Call) -> None:
        """Trace the commits and the AWS calls of this process; `aws` answers the AWS calls."""
        end = Transaction._end

        def end_traced(transaction: Transaction, *statement: Statement) -> list[Reply]:
            return self.cross("commit", lambda: end(transaction, *statement))

        def call_traced(
            _: BaseClient, operation: str, parameters: dict[str, Any]
        ) -> dict[str, Any]:
            return self.cross(operation, lambda: aws(operation, parameters))

        cast(Any, Transaction)._end = end_traced
        cast(Any, BaseClient)._make_api_call = call_traced

    def cross[T](self, kind: str, action: Callable[[], T]) -> T:
        number = next(self._numbers)
        self._tell(f"{kind} in {_caller()}")
        self._die_at(number, "before")
        try:
            return action()
        finally:  # an error is an answer too
            self._die_at(number, "after")

    def _die_at(self, number: int, moment: Moment) -> None:
        if self._death == Death(number, moment):
            os.kill(os.getpid(), signal.SIGKILL)


def _caller() -> str:
    """Name our function that crosses. Context managers are skipped, because they are generators."""
    frame = sys._getframe(1)
    while frame := frame.f_back:  # type: ignore[assignment]  # a scenario is at the bottom
        module = frame.f_globals["__name__"]
        if (
            module.startswith(_OURS)
            and not module.startswith(_CARRIERS)
            and not frame.f_code.co_flags & inspect.CO_GENERATOR
        ):
            return f"{module}.{frame.f_code.co_qualname}"
    raise LookupError("no function of ours crosses this boundary")
