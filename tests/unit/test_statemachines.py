"""C-07: every state machine follows the rules of sagas."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.unit.template import ROOT, definitions, scopes, states, target, template

from skald.entrypoints.queued import LEASE_SECONDS

TRANSIENT = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
}
"""The errors that AWS recommends to retry in every Lambda task."""
DEFINITIONS = definitions()
STATES = [
    pytest.param(state, id=f"{file.removesuffix('.asl.json')}.{name}")
    for file, definition in DEFINITIONS.items()
    for name, state in states(definition).items()
]
TASKS = [case for case in STATES if case.values[0]["Type"] == "Task"]  # type: ignore[index]
LAMBDA_TASKS = [case for case in TASKS if "lambda" in case.values[0]["Resource"]]  # type: ignore[index]
QUEUE_TASKS = [case for case in TASKS if "sqs:sendMessage" in case.values[0]["Resource"]]  # type: ignore[index]
WAITS = [case for case in LAMBDA_TASKS if "waitForTaskToken" in case.values[0]["Resource"]]  # type: ignore[index]

type State = dict[str, Any]
machines = pytest.mark.parametrize("file", DEFINITIONS)


def is_compensation(state: State) -> bool:
    function = str(state.get("Parameters", {}).get("FunctionName", ""))
    return "Compensate" in function or function.startswith("${Undo")


def test_there_are_state_machines() -> None:
    """C-07: the tests below find state machines."""
    assert "batch_pipeline.asl.json" in DEFINITIONS
    assert len(TASKS) >= 7
    assert WAITS
    assert QUEUE_TASKS


# Each state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_every_state_says_what_it_is_for(state: State) -> None:
    """C-07: every state has a comment."""
    assert len(state.get("Comment", "")) > 10


@pytest.mark.parametrize("state", TASKS)
def test_every_task_has_a_timeout(state: State) -> None:
    """C-07: without a timeout a task may hang for a year."""
    assert ("TimeoutSeconds" in state) != ("TimeoutSecondsPath" in state)
    assert state.get("TimeoutSeconds", 1) > 0


@pytest.mark.parametrize("state", LAMBDA_TASKS)
def test_every_task_retries_what_lambda_may_cure(state: State) -> None:
    """C-07: tasks retry the transient errors of Lambda and our own name for temporary ones."""
    retried = {name for retrier in state["Retry"] for name in retrier["ErrorEquals"]}
    assert "States.ALL" in retried or TRANSIENT | {"Temporary"} <= retried


@pytest.mark.parametrize("state", TASKS)
def test_every_retry_backs_off_with_jitter(state: State) -> None:
    """C-07: a thousand retries must not come in the same second, and must have an end."""
    for retrier in state["Retry"]:
        assert retrier["JitterStrategy"] == "FULL"
        assert retrier["BackoffRate"] > 1
        assert 1 <= retrier["MaxAttempts"] <= 10
        assert retrier["MaxDelaySeconds"] <= 300


@pytest.mark.parametrize("state", TASKS)
def test_every_task_catches_everything(state: State) -> None:
    """C-07: the last catcher takes every error, and keeps it for the compensation."""
    *_, last = state["Catch"]
    assert last["ErrorEquals"] == ["States.ALL"]
    assert last["ResultPath"].startswith("$.")


@pytest.mark.parametrize("state", TASKS)
def test_states_all_stands_alone_and_last(state: State) -> None:
    """C-07: Step Functions refuses it otherwise."""
    for rules in (state["Retry"], state["Catch"]):
        for rule in rules[:-1]:
            assert "States.ALL" not in rule["ErrorEquals"]
        if "States.ALL" in rules[-1]["ErrorEquals"]:
            assert rules[-1]["ErrorEquals"] == ["States.ALL"]


@pytest.mark.parametrize("state", WAITS)
def test_every_wait_hands_its_token_over_and_survives_both_timeouts(state: State) -> None:
    """V-06: AWS and LocalStack name a missed heartbeat differently; both names are caught."""
    assert "$$.Task.Token" in json.dumps(state["Parameters"])
    caught = {name for catcher in state["Catch"][:-1] for name in catcher["ErrorEquals"]}
    assert {"States.Timeout", "States.HeartbeatTimeout"} <= caught
    retried = {name for retrier in state["Retry"] for name in retrier["ErrorEquals"]}
    assert {"States.Timeout", "States.ALL", "States.TaskFailed"}.isdisjoint(retried), (
        "a wait that timed out must not begin again"
    )


@pytest.mark.parametrize("state", QUEUE_TASKS)
def test_a_queued_task_begins_again_when_nothing_is_heard_of_it(state: State) -> None:
    """V-13: after a lost message a new one with a new token resumes from the checkpoint."""
    assert state["Parameters"]["MessageBody"]["task_token.$"] == "$$.Task.Token"
    retried = {name for retrier in state["Retry"] for name in retrier["ErrorEquals"]}
    assert {"States.Timeout", "States.HeartbeatTimeout"} <= retried
    assert {"SQS.AmazonSQSException", "SQS.SdkClientException"} <= retried
    assert "Temporary" not in retried, "the worker has tried often enough before it says so"


@pytest.mark.parametrize("state", QUEUE_TASKS)
def test_a_message_that_waits_is_no_missed_heartbeat(state: State) -> None:
    """V-13: a message in the queue sends no heartbeat; the queue notices dead workers."""
    assert state["HeartbeatSeconds"] >= 3_600
    assert state["TimeoutSeconds"] > state["HeartbeatSeconds"] > LEASE_SECONDS


@pytest.mark.parametrize("state", [*LAMBDA_TASKS, *QUEUE_TASKS])
def test_states_carry_ids_not_data(state: State) -> None:
    """C-07: a task receives single fields, and single fields of its result are kept."""
    payload = state["Parameters"].get("Payload") or state["Parameters"]["MessageBody"]
    assert "$" not in payload.values()
    assert {"saga_id.$", "tenant_id.$", "trace_id.$"} <= set(payload)
    assert state["ResultPath"] is None or "ResultSelector" in state


# Each machine -------------------------------------------------------------------------------------


@machines
def test_a_machine_budgets_its_time(file: str) -> None:
    """C-07: the header says what the saga does and its longest duration."""
    definition = DEFINITIONS[file]
    assert definition["TimeoutSeconds"] > 0
    assert "Worst case" in definition["Comment"]


@machines
def test_all_targets_exist_and_all_states_are_reached(file: str) -> None:
    """C-07: every state leads to a state that exists, and every state is reached."""
    for scope in scopes(DEFINITIONS[file]):
        reached: set[str] = set()
        waiting = [scope["StartAt"]]
        while waiting:
            name = waiting.pop()
            assert name in scope["States"]
            if name not in reached:
                reached.add(name)
                waiting += targets(scope["States"][name])
        assert reached == set(scope["States"])


def targets(state: State) -> Iterator[str]:
    """Return the states that may follow a state."""
    for key in ("Next", "Default"):
        if key in state:
            yield state[key]
    for rule in (*state.get("Catch", ()), *state.get("Choices", ())):
        yield rule["Next"]


@machines
def test_every_failure_is_compensated(file: str) -> None:
    """C-07: the catch-all of a step leads to compensation, that of compensation to a person."""
    all_states = states(DEFINITIONS[file])
    for name, state in all_states.items():
        if state["Type"] == "Task":
            after = all_states[state["Catch"][-1]["Next"]]
            if is_compensation(state):
                assert after["Type"] == "Fail", name
                assert after["Error"] == "NeedsManualIntervention", name
            else:
                assert is_compensation(after), name


@machines
def test_the_pivot_is_marked(file: str) -> None:
    """C-07: a reader sees after which state nothing is compensated."""
    marked = [
        state["Comment"]
        for state in states(DEFINITIONS[file]).values()
        if state["Comment"].startswith("The pivot:")
    ]
    assert len(marked) == 1


@machines
def test_compensation_tries_longer_than_any_step(file: str) -> None:
    """C-07: compensations retry longer than any step, for every error."""
    tasks = [state for state in states(DEFINITIONS[file]).values() if state["Type"] == "Task"]
    attempts = {True: [0], False: [0]}
    for state in tasks:
        retriers = state["Retry"]
        attempts[is_compensation(state)].append(max(r["MaxAttempts"] for r in retriers))
        if is_compensation(state):
            assert retriers[-1]["ErrorEquals"] == ["States.ALL"]
    assert max(attempts[True]) > max(attempts[False])


# With the template --------------------------------------------------------------------------------


def machine_of(file: str) -> Mapping[str, Any]:
    return template().machines[file]


@machines
def test_substitutions_are_given_and_used(file: str) -> None:
    """C-03: the template sets every ${Name} of the definition, and no other."""
    text = (ROOT / "statemachines" / file).read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(machine_of(file)["DefinitionSubstitutions"])


@machines
def test_substitutions_are_what_the_machine_may_call(file: str) -> None:
    """C-03: the policies name the same functions and queues, no more and no fewer."""
    machine = machine_of(file)
    given = {target(value) for value in machine["DefinitionSubstitutions"].values()}
    assert given & set(template().functions) == {
        target(policy["LambdaInvokePolicy"]["FunctionName"])
        for policy in machine["Policies"]
        if "LambdaInvokePolicy" in policy
    }
    statements = [s for policy in machine["Policies"] for s in policy.get("Statement", ())]
    assert {statement["Action"] for statement in statements} <= {"sqs:SendMessage"}
    assert given - set(template().functions) == {target(s["Resource"]) for s in statements}
    assert given <= set(template().functions) | set(template().queues)


@machines
def test_tasks_outlast_their_functions(file: str) -> None:
    """C-07: a task that times out while its function works has an unknown outcome."""
    substitutions = machine_of(file)["DefinitionSubstitutions"]
    functions = template().functions
    for state in states(DEFINITIONS[file]).values():
        if state["Type"] == "Task" and "TimeoutSeconds" in state:
            called = state["Parameters"]
            name = (called.get("FunctionName") or called["QueueUrl"]).strip("${}")
            function = functions.get(target(substitutions[name])) or consumer(name)
            assert state["TimeoutSeconds"] >= template().number(function["Timeout"]), name


def consumer(queue: str) -> Mapping[str, Any]:
    """Return the function that consumes a queue."""
    [function] = [
        function
        for function in template().functions.values()
        for event in function.get("Events", {}).values()
        if event["Type"] == "SQS" and target(event["Properties"]["Queue"]) == queue
    ]
    return function


def test_every_machine_of_the_template_has_its_file() -> None:
    """C-03: each machine of the template has its definition."""
    assert set(template().machines) == set(DEFINITIONS)
