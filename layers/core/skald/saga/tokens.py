"""Answers to Step Functions task tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skald.aws import client
from skald.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

MAX_ERROR = 256
MAX_CAUSE = 32_768
"""Characters that Step Functions accepts in an error's name and in its cause."""


def succeed(token: str, output: dict[str, Any]) -> bool:
    """End the wait of this token with a result; False when the wait is over already.

    A second answer, a late one, or one after the execution ended does nothing.
    """
    return _is_accepted(lambda to: to.send_task_success(taskToken=token, output=json.dumps(output)))


def fail(token: str, error: str, cause: str) -> bool:
    """End the wait of this token with an error; False when the wait is over already.

    `error` is the name that the state machine catches.
    """
    return _is_accepted(
        lambda to: to.send_task_failure(
            taskToken=token, error=error[:MAX_ERROR], cause=cause[:MAX_CAUSE]
        )
    )


def heartbeat(token: str) -> bool:
    """Report that the task is alive; False when its wait is over."""
    return _is_accepted(lambda to: to.send_task_heartbeat(taskToken=token))


def _is_accepted(send: Callable[[SFNClient], object]) -> bool:
    machines = client("stepfunctions")
    over = (
        machines.exceptions.TaskTimedOut,
        machines.exceptions.TaskDoesNotExist,
        machines.exceptions.InvalidToken,
    )
    try:
        send(machines)
    except over:
        logger.info("the execution no longer waits with this token")
        return False
    return True
