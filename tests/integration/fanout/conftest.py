"""The fan-out of a tenant."""

from uuid import UUID

import pytest
from tests.integration.fanout.work import Work

from skald.postgres import Database


@pytest.fixture
def work(aws: None, database: Database, tenant: UUID) -> Work:
    """A fan-out that a test opens."""
    return Work(database, tenant)
