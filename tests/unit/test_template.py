"""C-03: the rules of the template that `sam validate` does not check."""

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.template import ROOT, groups, resources_of, target, template

from operations.contexts import contexts
from skald.entrypoints import queued

TEMPLATE = template()
DOORBELLS = {"DoorbellQueue"}
"""Queues whose messages have no content: a lost or repeated message costs nothing."""
LETTERS = {
    target(queue["RedrivePolicy"]["deadLetterTargetArn"])
    for queue in TEMPLATE.queues.values()
    if "RedrivePolicy" in queue
} | {
    target(function["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"])
    for function in TEMPLATE.functions.values()
    if "EventInvokeConfig" in function
}
"""The queues for messages that no function could handle."""


def sources(kind: str) -> Iterator[Any]:
    """Return function, its name and the properties of each event source of a kind."""
    for name, function in TEMPLATE.functions.items():
        for event_name, event in function.get("Events", {}).items():
            if event["Type"] == kind:
                yield pytest.param(function, event["Properties"], id=f"{name}.{event_name}")


ALL_QUEUE_SOURCES = list(sources("SQS"))
"""Including the dead-letter queues, which have a consumer too."""
QUEUE_SOURCES = [
    case for case in ALL_QUEUE_SOURCES if target(case.values[1]["Queue"]) not in DOORBELLS | LETTERS
]


@pytest.mark.parametrize("name", TEMPLATE.functions)
def test_every_handler_is_there(name: str) -> None:
    """C-03: the handler's module can be imported and has this callable."""
    function = TEMPLATE.functions[name]
    assert function["CodeUri"] == "functions/"
    module, _, attribute = function["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize(("function", "source"), QUEUE_SOURCES)
def test_queue_consumers_report_each_failure(
    function: dict[str, Any], source: dict[str, Any]
) -> None:
    """Q-05: otherwise one bad message repeats all others of its batch."""
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize(("function", "source"), QUEUE_SOURCES)
def test_queues_with_consumers_have_dead_letters(
    function: dict[str, Any], source: dict[str, Any]
) -> None:
    """V-12: a poison message is kept in a queue for two weeks."""
    redrive = TEMPLATE.queues[target(source["Queue"])]["RedrivePolicy"]
    assert redrive["maxReceiveCount"] >= 3
    letters = TEMPLATE.queues[target(redrive["deadLetterTargetArn"])]
    assert letters["MessageRetentionPeriod"] == 14 * 86_400
    assert "RedrivePolicy" not in letters


def test_every_dead_letter_is_collected() -> None:
    """V-12, Q-05: a message that a queue or a function gave up can be read and replayed."""
    [event] = TEMPLATE.functions["CollectDeadLetters"]["Events"].values()
    assert {target(event["Properties"]["Queue"])} == LETTERS
    assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize(("function", "source"), ALL_QUEUE_SOURCES)
def test_messages_stay_hidden_while_they_are_worked_on(
    function: dict[str, Any], source: dict[str, Any]
) -> None:
    """Q-05: a visibility timeout below the function's would deliver a message twice."""
    queue = TEMPLATE.queues[target(source["Queue"])]
    visible_after = TEMPLATE.number(queue.get("VisibilityTimeout", 30))
    assert visible_after >= TEMPLATE.number(function["Timeout"])


def test_a_queued_steps_last_delivery_is_the_one_its_worker_takes_for_it() -> None:
    """V-13: the worker that gets a message for the last time fails its wait at once."""
    policy = TEMPLATE.queues["DiagnosisQueue"]["RedrivePolicy"]
    assert policy["maxReceiveCount"] == queued.RECEIVES


def test_buckets_are_private() -> None:
    """C-03: clients read a bucket only by signed URLs."""
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
    """Return the strings of a value that is one string, a list, or made by `!Sub`."""
    values = value if isinstance(value, list) else [value]
    return [str(v["Fn::Sub"] if isinstance(v, dict) and "Fn::Sub" in v else v) for v in values]


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
    """C-03: the template sets the variable of each `required("NAME")` and `Bucket("NAME")`."""
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
    """C-06: the payloads of `sam local invoke` can be read."""
    assert isinstance(json.loads(file.read_text()), dict)


# Contexts -----------------------------------------------------------------------------------------

PRODUCTS = 5
PARTS = {"Api": 1, "S3": 1, "SQS": 1, "Schedule": 2}
"""The resources that SAM adds for an event source: a permission, a mapping, or a rule with one."""


def deployed(resource: dict[str, Any]) -> int:
    """Return how many resources SAM makes of one, including its role."""
    match resource["Type"]:
        case "AWS::Serverless::Function":
            function = resource["Properties"]
            events = function.get("Events", {}).values()
            return 2 + ("EventInvokeConfig" in function) + sum(PARTS[e["Type"]] for e in events)
        case "AWS::Serverless::StateMachine":
            return 2
        case "AWS::Serverless::Api":
            return 3
        case _:
            return 1


@pytest.mark.parametrize("context", [context.name for context in contexts()])
def test_a_context_is_one_group(context: str) -> None:
    """X-09: the resources of a context are in its group, and the group has no others."""
    inside = {
        name
        for name, function in TEMPLATE.functions.items()
        if function["Handler"].startswith(f"{context}.")
    }
    assert inside == {name for name in resources_of(context) if name in TEMPLATE.functions}


OBJECT_POLICIES = {
    name
    for name, policy in TEMPLATE.of_type("AWS::IAM::ManagedPolicy").items()
    if "${aws:PrincipalTag/context}" in json.dumps(policy)
}


@pytest.mark.parametrize("name", TEMPLATE.functions)
def test_a_function_touches_the_objects_of_its_context(name: str) -> None:
    """X-09, C-03: its tag, which SAM also gives its role, names the keys that it may use."""
    function = TEMPLATE.functions[name]
    touches = {target(policy) for policy in function["Policies"] if "Ref" in policy}
    context = function["Handler"].partition(".")[0]
    expected = {"context": context} if touches & OBJECT_POLICIES else None
    assert function.get("Tags") == expected


def test_no_policy_of_objects_is_for_every_context() -> None:
    """X-09, C-03: a shared policy never names all objects of a bucket; it only lists keys."""
    assert len(OBJECT_POLICIES) == 4
    for policy in TEMPLATE.of_type("AWS::IAM::ManagedPolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if {"s3:ListBucket"}.isdisjoint(texts(statement["Action"])):
                assert all(
                    "${aws:PrincipalTag/context}/*" in resource
                    for resource in texts(statement["Resource"])
                    if "s3" in json.dumps(statement["Action"])
                )


def test_no_text_of_sub_is_escaped() -> None:
    """C-03: LocalStack does not support `${!…}` and refuses the whole template."""
    assert "${!" not in (ROOT / "template.yaml").read_text()


@pytest.mark.parametrize("name", TEMPLATE.queues)
def test_a_queue_is_named_for_its_context(name: str) -> None:
    """X-09: the relay finds a queue by the names of stack, context and queue."""
    given = TEMPLATE.queues[name]["QueueName"]["Fn::Sub"]
    owners = [context.name for context in contexts() if name in resources_of(context.name)]
    if owners:
        assert given.startswith(f"${{AWS::StackName}}-{owners[0]}-")
    else:
        assert (given, {name}) == ("${AWS::StackName}-dead-letters", LETTERS)


@pytest.mark.parametrize("file", TEMPLATE.machines)
def test_a_state_machine_is_named_for_its_saga(file: str) -> None:
    """X-09, G-07: the reconciler may read every execution of the stack by its saga's name."""
    saga = file.removesuffix(".asl.json")
    assert TEMPLATE.machines[file]["Name"]["Fn::Sub"] == f"${{AWS::StackName}}-{saga}"


@pytest.mark.parametrize("context", [c.name for c in contexts() if c.name != "operations"])
def test_a_product_is_small(context: str) -> None:
    """X-09: its group has at most 200 lines."""
    assert len(groups()[context.capitalize()].splitlines()) <= 200


def test_five_products_fit_into_a_stack() -> None:
    """X-09, C-03: five of the largest product stay far below CloudFormation's 500 resources."""
    all_parts = sum(map(deployed, TEMPLATE.document["Resources"].values()))
    largest = sum(map(deployed, resources_of("batches").values()))
    assert all_parts + (PRODUCTS - 1) * largest < 400


# Alarms -------------------------------------------------------------------------------------------

ALARMS = TEMPLATE.of_type("AWS::CloudWatch::Alarm")


def names(alarm: Any) -> str:
    """Return everything that an alarm watches, as text."""
    return json.dumps([alarm.get("MetricName"), alarm.get("Metrics")])


@pytest.mark.parametrize("name", ALARMS)
def test_alarms_notify_and_say_why(name: str) -> None:
    """G-09, G-16: an alarm notifies somebody and says what to do."""
    assert [target(action) for action in ALARMS[name]["AlarmActions"]] == ["Alarms"]
    assert ALARMS[name]["AlarmDescription"].endswith(".")


def test_alarms_watch_metrics_that_exist() -> None:
    """G-16: an alarm on a renamed metric would never fire."""
    sources = [*ROOT.glob("functions/**/*.py"), *ROOT.glob("layers/core/skald/**/*.py")]
    text = "".join(path.read_text() for path in sources)
    ours = re.findall(
        r"[a-z]+(?:_[a-z]+)+_(?:count|seconds)", " ".join(map(names, ALARMS.values()))
    )
    assert len(ours) == 5
    for metric in ours:
        assert f'"{metric}"' in text, metric


def test_the_dead_letter_queue_is_watched() -> None:
    """G-16, V-12: an alarm reports letters that stay in the queue."""
    [dimension] = ALARMS["UncollectedLetters"]["Dimensions"]
    assert dimension["Name"] == "QueueName"
    assert {target(dimension["Value"])} == LETTERS
