"""The execution of a saga's state machine. Its name is the saga's id, so it starts only once."""

import json
from typing import Any

from skald.aws import client
from skald.telemetry import Kind, span, workflow_span_id


def start(machine: str, kind: str, saga_id: str, document: dict[str, Any]) -> str:
    """Start an execution and return its ARN; one that has the same input is not started again.

    `kind` names the span of the start, which is the parent of the spans of all steps (G-09).
    Raises `ExecutionAlreadyExists` of the client if the execution has another input.
    """
    with span(Kind.WORKFLOW, kind, span_id=workflow_span_id(saga_id)):
        return _started(machine, saga_id, document)


def _started(machine: str, saga_id: str, document: dict[str, Any]) -> str:
    machines = client("stepfunctions")
    try:
        started = machines.start_execution(
            stateMachineArn=machine, name=saga_id, input=json.dumps(document)
        )
    except machines.exceptions.ExecutionAlreadyExists:
        # The name is taken: by an earlier delivery of this event, or by another input, an error.
        earlier = machines.describe_execution(executionArn=arn(machine, saga_id))
        if json.loads(earlier["input"]) != document:
            raise
        return earlier["executionArn"]
    return started["executionArn"]


def stop(machine: str, saga_id: str, cause: str) -> bool:
    """Stop the execution of a saga; False if none was started."""
    machines = client("stepfunctions")
    try:
        machines.stop_execution(executionArn=arn(machine, saga_id), cause=cause)
    except machines.exceptions.ExecutionDoesNotExist:
        return False
    return True


def arn(machine: str, saga_id: str) -> str:
    """Return the ARN of a saga's execution, made from the ARN of its state machine."""
    return f"{machine.replace(':stateMachine:', ':execution:')}:{saga_id}"
