"""Uses the deployment and the tenants of tests/e2e: one platform serves both."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.recordings import Gate
from tests.e2e.conftest import endpoint, new_tenant, skald, tenant
from tests.e2e.deployment import Deployment

__all__ = ["endpoint", "gate", "new_tenant", "skald", "tenant"]


@pytest.fixture
def gate(skald: Deployment, tmp_path: Path) -> Iterator[Gate]:
    """A closed gate before the end of every recording. It opens after the test."""
    gate = Gate(skald, tmp_path)
    with skald.configured("ParseFile", SKALD_REC_PARSER=gate.command):
        try:
            yield gate
        finally:
            gate.open()
