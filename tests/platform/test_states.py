"""State machines on the local platform: LocalStack's own overhead stays small."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from .conftest import Platform

type Outcome = dict[str, Any]
type Run = Callable[[dict[str, Any]], list[Outcome]]


@pytest.fixture
def run_twice(platform: Platform) -> Iterator[Run]:
    """Run a machine of these states twice, from the first of them."""
    machines = platform.client("stepfunctions")
    created: list[str] = []

    def run(states: dict[str, Any]) -> list[Outcome]:
        machine = machines.create_state_machine(
            name=f"machine-{uuid4().hex[:8]}",
            definition=json.dumps({"StartAt": next(iter(states)), "States": states}),
            roleArn="arn:aws:iam::000000000000:role/anyone",
        )["stateMachineArn"]
        created.append(machine)
        return [_outcome(machines, machine) for _ in range(2)]

    yield run
    for machine in created:
        machines.delete_state_machine(stateMachineArn=machine)
    machines.close()


def _outcome(machines: Any, machine: str) -> Outcome:
    execution = machines.start_execution(stateMachineArn=machine, input='{"is": {"here": 1}}')
    deadline = time.monotonic() + 60
    while True:
        state = machines.describe_execution(executionArn=execution["executionArn"])
        if state["status"] != "RUNNING":
            took = (state["stopDate"] - state["startDate"]).total_seconds()
            return {"output": json.loads(state["output"]), "seconds": took}
        assert time.monotonic() < deadline, "the execution did not end"
        time.sleep(0.05)


def test_a_role_is_assumed_once(run_twice: Run) -> None:
    asked = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sts:getCallerIdentity",
        "ResultSelector": {"session.$": "$.Arn"},
    }
    outcomes = run_twice(
        {
            "First": asked | {"ResultPath": "$.first", "Next": "Second"},
            "Second": asked | {"ResultPath": "$.second", "End": True},
        }
    )
    sessions = {one["output"][task]["session"] for one in outcomes for task in ("first", "second")}
    assert len(sessions) == 1
    assert "assumed-role" in sessions.pop()


def test_a_path_is_parsed_once(run_twice: Run) -> None:
    """LocalStack needs three seconds and more for a hundred parsers."""
    paths = {f"{number}.$": "$.is.here" for number in range(100)}
    outcomes = run_twice({"Only": {"Type": "Pass", "Parameters": paths, "End": True}})
    for outcome in outcomes:
        assert outcome["output"] == {str(number): 1 for number in range(100)}
    assert min(outcome["seconds"] for outcome in outcomes) < 1, "it may stand still once"
