"""Answers to Step Functions task tokens."""

import json
from typing import Any

from skald.aws import client
from skald.telemetry import logger


def answer(token: str, output: dict[str, Any]) -> bool:
    """Wake the execution that waits with this token; False when its wait is over.

    Answering twice, late, or after the execution ended does nothing.
    """
    machines = client("stepfunctions")
    over = (
        machines.exceptions.TaskTimedOut,
        machines.exceptions.TaskDoesNotExist,
        machines.exceptions.InvalidToken,
    )
    try:
        machines.send_task_success(taskToken=token, output=json.dumps(output))
    except over:
        logger.info("the execution no longer waits for this answer")
        return False
    return True
