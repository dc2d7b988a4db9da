"""A domain and the modules that it imports do no I/O."""

from pathlib import Path

import pytest
from tests.cold_start import ROOT, modules_after

IO = {"psycopg", "boto3", "botocore", "redis", "langgraph"}
DOMAINS = sorted(path.parent.name for path in Path(ROOT, "functions").glob("*/domain.py"))


@pytest.mark.parametrize("module", [f"{context}.domain" for context in DOMAINS])
def test_a_domain_does_no_io(module: str) -> None:
    """Rules can be read, tested and loaded without a driver or a client."""
    assert modules_after(f"import {module}").isdisjoint(IO)


@pytest.mark.parametrize("module", ["skald.command", "skald.life", "skald.messaging.envelope"])
def test_what_domains_are_made_of_does_no_io(module: str) -> None:
    """Commands, life cycles and envelopes hold names and values only."""
    assert modules_after(f"import {module}").isdisjoint(IO)


def test_every_context_with_rules_is_looked_at() -> None:
    """The tests above find modules."""
    assert {"batches", "grading", "knowledge"} <= set(DOMAINS)
