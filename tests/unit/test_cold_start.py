"""DESIGN 3: what is heavy loads on first use, not with every cold start."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable

from tests.unit.template import ROOT, template

HEAVY = {"boto3", "redis", "matplotlib", "numpy", "langgraph", "langchain_core", "yoyo"}
ROUTER = "aws_lambda_powertools.event_handler"
DOCUMENTS = f"{ROUTER}.openapi.models"

FUNCTIONS = template().functions.values()
ALL = {function["Handler"].rpartition(".")[0] for function in FUNCTIONS}
HTTP = {
    function["Handler"].rpartition(".")[0]
    for function in FUNCTIONS
    if any(event["Type"] == "Api" for event in function.get("Events", {}).values())
}
SHOWN = {"batches.diagnosing"}
"""Its work is shown as server-sent events, so it shares a module with routes."""


def loaded(entry_points: Iterable[str]) -> set[str]:
    """Return the modules that a fresh interpreter has after importing these."""
    program = f"import json, sys, {', '.join(entry_points)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/functions{os.pathsep}{ROOT}/layers/core"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return set(json.loads(done.stdout))


def test_no_function_begins_heavily() -> None:
    """DESIGN 3: a cold start waits for no client, no plot, no agent and no OpenAPI model."""
    modules = loaded(ALL)
    assert ROUTER in modules
    assert modules.isdisjoint({*HEAVY, DOCUMENTS})


def test_only_http_functions_load_the_router() -> None:
    """DESIGN 3: steps and consumers share repositories with routes, not what serves them."""
    assert ROUTER not in loaded(ALL - HTTP - SHOWN)
