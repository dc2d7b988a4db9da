"""The execution of a saga's state machine: its name is the saga's id, so it is started once."""

import json
from typing import Any

from skald.aws import client


def start(machine: str, saga_id: str, document: dict[str, Any]) -> str:
    """Start an execution, unless it was started with this very input; returns its ARN.

    Raises `ExecutionAlreadyExists` of the client where the name is taken with another input.
    """
    machines = client("stepfunctions")
    try:
        started = machines.start_execution(
            stateMachineArn=machine, name=saga_id, input=json.dumps(document)
        )
    except machines.exceptions.ExecutionAlreadyExists:
        # The name is taken: by this very event, delivered before, or by what must not be.
        earlier = machines.describe_execution(executionArn=arn(machine, saga_id))
        if json.loads(earlier["input"]) != document:
            raise
        return earlier["executionArn"]
    return started["executionArn"]


def stop(machine: str, saga_id: str, cause: str) -> bool:
    """Stop the execution of a saga; False where none was started."""
    machines = client("stepfunctions")
    try:
        machines.stop_execution(executionArn=arn(machine, saga_id), cause=cause)
    except machines.exceptions.ExecutionDoesNotExist:
        return False
    return True


def arn(machine: str, saga_id: str) -> str:
    """Return the ARN of a saga's execution by that of its state machine."""
    return f"{machine.replace(':stateMachine:', ':execution:')}:{saga_id}"
