"""Cold starts: a heavy module is loaded on first use, not in every cold start."""

import pytest
from tests.cold_start import modules_after, output_of
from tests.unit.template import template

from skald.garbage import NEW_OBJECTS

HEAVY = {"boto3", "redis", "matplotlib", "numpy", "langgraph", "langchain_core", "yoyo"}
ROUTER = "aws_lambda_powertools.event_handler"
DOCUMENTS = {f"{ROUTER}.openapi.models", "skald.entrypoints.http.openapi"}

FUNCTIONS = template().functions.values()
ALL = {function["Handler"].rpartition(".")[0] for function in FUNCTIONS}
HTTP = {
    function["Handler"].rpartition(".")[0]
    for function in FUNCTIONS
    if any(event["Type"] == "Api" for event in function.get("Events", {}).values())
}
SHOWN = {"batches.diagnosing"}
"""Its work is shown as server-sent events, so its module has routes too."""


def test_no_function_begins_heavily() -> None:
    """Cold starts load no AWS client, no plot library, no agent and no OpenAPI model."""
    modules = modules_after(f"import {', '.join(ALL)}")
    assert ROUTER in modules
    assert modules.isdisjoint(HEAVY | DOCUMENTS)


def test_only_http_functions_load_the_router() -> None:
    """Cold starts: steps and consumers share repositories with routes, but not the router."""
    assert ROUTER not in modules_after(f"import {', '.join(ALL - HTTP - SHOWN)}")


@pytest.mark.parametrize("context", sorted({entry_point.split(".")[0] for entry_point in ALL}))
def test_imports_are_not_searched_for_garbage(context: str) -> None:
    """Cold starts: every context stops the garbage collector before its imports."""
    threshold = output_of(f"import gc, {context}; print(gc.get_threshold()[0])")
    assert int(threshold) == NEW_OBJECTS
