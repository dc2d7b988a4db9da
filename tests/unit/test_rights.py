"""C-03: the template allows a function what its code can do, and no more."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.unit.reach import buckets, needs
from tests.unit.template import target, template

TEMPLATE = template()
POLICIES = {
    name: policy["PolicyDocument"]["Statement"]
    for name, policy in TEMPLATE.of_type("AWS::IAM::ManagedPolicy").items()
}
FLOOR = "ContextPolicy"
"""The policy of every function of a context: rows, cache and the doorbell."""
LOCAL = {
    "Migrate": {"bedrock:InvokeModel", "secret model"},
}
"""Rights of code that a function never calls: the migrator uses the local embedder only."""
functions = pytest.mark.parametrize("name", TEMPLATE.functions)


def statements(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return each statement of a function with the name of its policy, empty for its own."""
    for policy in TEMPLATE.functions[name].get("Policies", ()):
        given = POLICIES[target(policy)] if "Ref" in policy else policy["Statement"]
        for statement in given:
            yield target(policy) if "Ref" in policy else "", statement


def rights(name: str, statement: Mapping[str, Any]) -> set[str]:
    """Return the rights of a statement in the form of `needs`."""
    actions = statement["Action"]
    actions = {actions} if isinstance(actions, str) else set(actions)
    if actions != {"secretsmanager:GetSecretValue"}:
        return actions
    secrets = set(re.findall(r"\{SecretPrefix\}/([\w/]+)-\*", str(statement["Resource"])))
    variables = TEMPLATE.functions[name]["Environment"]["Variables"]
    own = variables.get("POSTGRES_SECRET", {"Fn::Sub": "/postgres/app"})["Fn::Sub"]
    own = own.partition("/")[2]
    return {"secret postgres" if s == own else f"secret {s}" for s in secrets} | {
        f"secret {s}" for s in secrets if s == "postgres/relay"
    }


def bucket(statement: Mapping[str, Any]) -> str | None:
    """Return the bucket of a statement."""
    found = re.search(r"uploads|artifacts", str(statement["Resource"]).lower())
    return found[0] if found and "s3:" in str(statement["Action"]) else None


@functions
def test_a_function_may_do_what_its_code_does(name: str) -> None:
    """C-03: a call that no policy allows would fail on AWS only, and no test runs there."""
    allowed = {right for _, given in statements(name) for right in rights(name, given)}
    handler = TEMPLATE.functions[name]["Handler"]
    assert needs(handler) - LOCAL.get(name, set()) <= allowed
    reached = {bucket(given) for _, given in statements(name)} - {None}
    assert buckets(handler) <= reached or not any("s3:" in need for need in needs(handler))


@functions
def test_a_function_may_do_no_more(name: str) -> None:
    """C-03: least privilege: all own rights are used, and each named policy is used."""
    handler = TEMPLATE.functions[name]["Handler"]
    needed = needs(handler)
    for policy, statement in statements(name):
        allowed = rights(name, statement)
        assert bucket(statement) in (None, *buckets(handler))
        if not policy:
            assert allowed - {"secret postgres/relay"} <= needed, statement
        elif policy != FLOOR:
            assert allowed & needed, policy


def test_what_is_allowed_and_needed_is_found() -> None:
    """C-03: the two tests above find rights to compare."""
    assert needs("batches.steps.force_gather") == {"secret postgres"}
    assert {"s3:ListMultipartUploadParts", "s3:GetObject"} <= needs("batches.api.handler")
    assert "s3:DeleteObject" not in needs("batches.api.handler")
    assert "s3:DeleteObject" in needs("operations.reconciler.reconcile")
    assert buckets("batches.steps.gather") == {"artifacts"}
