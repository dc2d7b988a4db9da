"""X-09: each context describes itself completely."""

import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from tests.cold_start import modules_after
from tests.unit.template import ROOT, definitions, target, template

from operations.contexts import contexts
from skald.context import Context, Contexts, SagaKind, discover
from skald.entrypoints.http import Api
from skald.retention import RETENTIONS

FUNCTIONS = template().functions.values()
CONTEXTS = contexts()
NAMES = {name: queue["QueueName"]["Fn::Sub"] for name, queue in template().queues.items()}
CONSUMERS = {
    NAMES[target(event["Properties"]["Queue"])]: function["Handler"]
    for function in FUNCTIONS
    for event in function.get("Events", {}).values()
    if event["Type"] == "SQS"
}
"""The handler that consumes a queue, by the name of the queue."""


def references() -> Iterator[Any]:
    """Return every piece of code that a description names."""
    for context in CONTEXTS:
        named = list(context.apis.values())
        for kind in context.sagas.values():
            named += [kind.recovery, kind.ending]
        named += [context.retention] if context.retention else []
        for reference in named:
            yield pytest.param(context.name, reference, id=reference)


def test_every_context_with_a_function_describes_itself() -> None:
    """X-09: the kernel finds a context by its `context.py`."""
    serving = {function["Handler"].partition(".")[0] for function in FUNCTIONS}
    assert {context.name for context in CONTEXTS} == serving


@pytest.mark.parametrize(("context", "reference"), list(references()))
def test_what_a_context_names_is_its_own_and_there(context: str, reference: str) -> None:
    """X-09: such a name is imported late, so a wrong name would fail late."""
    assert reference.startswith(f"{context}.")
    assert resolve_name(reference)


def test_a_context_names_every_api_it_serves() -> None:
    """X-09, Q-09: the OpenAPI document has every route of API Gateway."""
    handlers = {
        function["Handler"]
        for function in FUNCTIONS
        if any(event["Type"] == "Api" for event in function.get("Events", {}).values())
    }
    named = CONTEXTS.apis.values()
    assert all(isinstance(api, Api) for api in named)
    served = [resolve_name(handler).__self__ for handler in handlers]
    assert sorted(map(id, served)) == sorted(map(id, named))


def test_every_state_machine_is_a_kind_of_saga() -> None:
    """X-09, G-07: a dead execution of any state machine is compensated."""
    assert {f"{name}.asl.json" for name in CONTEXTS.sagas} == set(definitions())


def test_a_trigger_of_s3_is_its_contexts_alone() -> None:
    """X-09, C-06: contexts share a bucket; each gets notifications for keys with its own prefix."""
    triggers = [
        (function["Handler"].partition(".")[0], event["Properties"])
        for function in FUNCTIONS
        for event in function.get("Events", {}).values()
        if event["Type"] == "S3"
    ]
    assert triggers
    for context, trigger in triggers:
        rule = {"Name": "prefix", "Value": f"{context}/"}
        assert trigger["Filter"] == {"S3Key": {"Rules": [rule]}}


def test_every_route_leads_to_a_queue_with_a_consumer() -> None:
    """X-09, C-09: a function of the context consumes each event, or the event is kept."""
    for context in CONTEXTS:
        for event_type, queue in context.routes.items():
            name = f"${{AWS::StackName}}-{context.name}-{queue}"
            assert name in NAMES.values(), f"{event_type} goes nowhere"
            if event_type != "*":
                assert CONSUMERS[name].partition(".")[0] == context.name


def test_every_queue_with_a_consumer_is_fed() -> None:
    """X-09: by a route, by a state machine, by the doorbell, or by a dead-letter queue."""
    fed = {f"${{AWS::StackName}}-{queue}" for queue in CONTEXTS.routes.values()}
    fed |= {
        NAMES[queue]
        for machine in template().machines.values()
        for queue in map(target, machine["DefinitionSubstitutions"].values())
        if queue in NAMES
    }
    fed |= {NAMES["DoorbellQueue"], NAMES["DeadLetterQueue"]}
    assert set(CONSUMERS) <= fed


def test_every_event_of_a_route_is_published() -> None:
    """X-09: a route for an event that no code names would remain from a renamed event."""
    code = "".join(file.read_text() for file in (ROOT / "functions").rglob("*.py"))
    for event_type in CONTEXTS.routes:
        named = len(re.findall(rf'"{re.escape(event_type)}"', code))
        assert event_type == "*" or named > 1, event_type


def test_contexts_are_found_without_what_they_name(tmp_path: Path) -> None:
    """X-09: reading the descriptions imports no API, no step and no client."""
    loaded = modules_after("from operations.contexts import contexts; contexts()")
    ours = {name for name in loaded if name.partition(".")[0] in {c.name for c in CONTEXTS}}
    assert ours == {
        *(context.name for context in CONTEXTS),
        *(f"{context.name}.context" for context in CONTEXTS),
        "operations.contexts",
    }
    assert discover(tmp_path) == ()
    assert discover(ROOT / "functions") == CONTEXTS


def test_contexts_add_their_rows_to_the_table_of_retention() -> None:
    """X-09, C-09: one function deletes old rows of every context that names them."""
    one = Context(name="one", retention="skald.retention:RETENTIONS")
    assert Contexts([one, Context(name="two")]).retention == [*RETENTIONS]


def test_what_is_kept_has_one_name_in_a_report() -> None:
    """C-09: two tables with one name would share their figures."""
    names = [row.what for row in [*RETENTIONS, *CONTEXTS.retention]]
    assert len(names) == len(set(names))


def test_two_contexts_cannot_claim_one_name() -> None:
    """X-09: a saga of one context is never recovered by the code of another."""
    kind = SagaKind(recovery="a.steps:undo", ending="a.domain:end")
    one = Context(name="one", sagas={"pipeline": kind}, routes={"file.parse": "jobs"})
    assert Contexts([one, Context(name="two")]).routes == {"file.parse": "one-jobs"}
    with pytest.raises(ValueError, match="more than one context claims pipeline"):
        _ = Contexts([one, one]).sagas
    with pytest.raises(ValueError, match="claims file"):
        _ = Contexts([one, Context(name="two", routes={"file.parse": "work"})]).routes
