"""C-03: what `sam validate` does not see in the template."""

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.template import ROOT, target, template

from skald.entrypoints import queued

TEMPLATE = template()
DOORBELLS = {"DoorbellQueue"}
"""Queues whose messages say nothing: one that is lost or repeated costs nothing."""
LETTERS = {
    target(queue["RedrivePolicy"]["deadLetterTargetArn"])
    for queue in TEMPLATE.queues.values()
    if "RedrivePolicy" in queue
} | {
    target(function["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"])
    for function in TEMPLATE.functions.values()
    if "EventInvokeConfig" in function
}
"""Where messages end that nobody could deal with."""


def sources(kind: str) -> Iterator[Any]:
    """Return function, its name and the properties of each event source of a kind."""
    for name, function in TEMPLATE.functions.items():
        for event_name, event in function.get("Events", {}).items():
            if event["Type"] == kind:
                yield pytest.param(function, event["Properties"], id=f"{name}.{event_name}")


ALL_QUEUE_SOURCES = list(sources("SQS"))
"""With the queues of dead letters, which have a consumer too."""
QUEUE_SOURCES = [
    case for case in ALL_QUEUE_SOURCES if target(case.values[1]["Queue"]) not in DOORBELLS | LETTERS
]


@pytest.mark.parametrize("name", TEMPLATE.functions)
def test_every_handler_is_there(name: str) -> None:
    """C-03: the handler's module can be imported and has such a callable."""
    function = TEMPLATE.functions[name]
    assert function["CodeUri"] == "functions/"
    module, _, attribute = function["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize(("function", "source"), QUEUE_SOURCES)
def test_queue_consumers_report_each_failure(
    function: dict[str, Any], source: dict[str, Any]
) -> None:
    """Q-05: without it one bad message repeats all others of its batch."""
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize(("function", "source"), QUEUE_SOURCES)
def test_queues_with_consumers_have_dead_letters(
    function: dict[str, Any], source: dict[str, Any]
) -> None:
    """V-12: a poison message ends in a queue that keeps it for two weeks."""
    redrive = TEMPLATE.queues[target(source["Queue"])]["RedrivePolicy"]
    assert redrive["maxReceiveCount"] >= 3
    letters = TEMPLATE.queues[target(redrive["deadLetterTargetArn"])]
    assert letters["MessageRetentionPeriod"] == 14 * 86_400
    assert "RedrivePolicy" not in letters


def test_every_dead_letter_is_collected() -> None:
    """V-12, Q-05: what a queue or a function gave up can be looked at and replayed."""
    events = TEMPLATE.functions["CollectDeadLetters"]["Events"].values()
    assert {target(event["Properties"]["Queue"]) for event in events} == LETTERS
    for event in events:
        assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize(("function", "source"), ALL_QUEUE_SOURCES)
def test_messages_stay_hidden_while_they_are_worked_on(
    function: dict[str, Any], source: dict[str, Any]
) -> None:
    """Q-05: a visibility timeout below the function's would deliver what is being done."""
    queue = TEMPLATE.queues[target(source["Queue"])]
    visible_after = TEMPLATE.number(queue.get("VisibilityTimeout", 30))
    assert visible_after >= TEMPLATE.number(function["Timeout"])


def test_a_queued_steps_last_delivery_is_the_one_its_worker_takes_for_it() -> None:
    """V-13: the worker that is handed a message for the last time fails its wait at once."""
    policy = TEMPLATE.queues["DiagnosisQueue"]["RedrivePolicy"]
    assert policy["maxReceiveCount"] == queued.RECEIVES


def test_buckets_are_private() -> None:
    """C-03: nobody reads a bucket but by a signed URL."""
    for name, bucket in TEMPLATE.of_type("AWS::S3::Bucket").items():
        blocked = bucket["PublicAccessBlockConfiguration"]
        assert all(blocked.values()), name
        assert len(blocked) == 4, name


def statements() -> Iterator[Any]:
    """Return every policy statement of functions, state machines and managed policies."""
    for name, function in TEMPLATE.functions.items():
        for policy in function.get("Policies", ()):
            for statement in policy.get("Statement", ()):
                yield pytest.param(statement, id=name)
    for name, policy in TEMPLATE.of_type("AWS::IAM::ManagedPolicy").items():
        for statement in policy["PolicyDocument"]["Statement"]:
            yield pytest.param(statement, id=name)


def texts(value: Any) -> list[str]:
    """Return the strings of a value that may be one, many, or made by `!Sub`."""
    values = value if isinstance(value, list) else [value]
    return [v["Fn::Sub"] if isinstance(v, dict) and "Fn::Sub" in v else str(v) for v in values]


@pytest.mark.parametrize("statement", list(statements()))
def test_policies_name_what_they_allow(statement: dict[str, Any]) -> None:
    """C-03: least privilege: no `*` for a resource, no whole service for an action."""
    assert statement["Effect"] == "Allow"
    for resource in texts(statement["Resource"]):
        assert resource != "*"
        assert not resource.endswith(":::*")
    for action in texts(statement["Action"]):
        assert "*" not in action


def test_what_functions_require_is_in_their_environment() -> None:
    """C-03: each `required("NAME")` or `Bucket("NAME")` is a variable that the template sets."""
    given = set(TEMPLATE.document["Globals"]["Function"]["Environment"]["Variables"])
    for function in TEMPLATE.functions.values():
        given |= set(function.get("Environment", {}).get("Variables", {}))
    code = [*(ROOT / "functions").rglob("*.py"), *(ROOT / "layers/core/skald").rglob("*.py")]
    needed = {
        name
        for file in code
        for name in re.findall(r'(?:required|Bucket)\("(\w+)"\)', file.read_text())
    }
    assert "UPLOADS_BUCKET" in needed
    assert needed <= given


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.name) for file in sorted((ROOT / "events").glob("*.json"))]
)
def test_every_payload_is_json(file: Any) -> None:
    """C-06: what `sam local invoke` is given can be read."""
    assert isinstance(json.loads(file.read_text()), dict)


# Alarms -------------------------------------------------------------------------------------------

ALARMS = TEMPLATE.of_type("AWS::CloudWatch::Alarm")


def names(alarm: Any) -> str:
    """Return all that an alarm says it watches, as text."""
    return json.dumps([alarm.get("MetricName"), alarm.get("Metrics")])


@pytest.mark.parametrize("name", ALARMS)
def test_alarms_are_told_and_say_why(name: str) -> None:
    """G-09, G-16: an alarm nobody hears of, or that does not say what to do, is none."""
    assert [target(action) for action in ALARMS[name]["AlarmActions"]] == ["Alarms"]
    assert ALARMS[name]["AlarmDescription"].endswith(".")


def test_alarms_watch_metrics_that_exist() -> None:
    """G-16: a metric that was renamed would leave its alarm silent for ever."""
    sources = [*ROOT.glob("functions/**/*.py"), *ROOT.glob("layers/core/skald/**/*.py")]
    text = "".join(path.read_text() for path in sources)
    ours = re.findall(
        r"[a-z]+(?:_[a-z]+)+_(?:count|seconds)", " ".join(map(names, ALARMS.values()))
    )
    assert len(ours) == 5
    for metric in ours:
        assert f'"{metric}"' in text, metric


def test_every_dead_letter_queue_is_watched() -> None:
    """G-16, V-12: letters that nobody collects are noticed."""
    watched = names(ALARMS["UncollectedLetters"])
    assert all(f"${{{queue}.QueueName}}" in watched for queue in LETTERS)
