"""The work of a tenant."""

from uuid import UUID

import pytest
from tests.integration.fanout.work import Work

from skald.postgres import Database


@pytest.fixture
def work(aws: None, database: Database, tenant: UUID) -> Work:
    """A fan-out to be opened."""
    return Work(database, tenant)
