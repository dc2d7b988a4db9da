"""A model behind HTTP for the agents."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from tests.integration.agents.cases import answer
from tests.integration.model_endpoint import ModelEndpoint, model_endpoint

from skald.models import Desk
from skald.models.openai_compatible import OpenAiCompatible
from skald.postgres import Database


@pytest.fixture
def endpoint(valkey: redis.Redis) -> Iterator[ModelEndpoint]:
    """A model that finds the cause of the strange case and has no request yet."""
    valkey.flushall()
    with model_endpoint(answer) as endpoint:
        yield endpoint


@pytest.fixture
def desk(endpoint: ModelEndpoint, database: Database, valkey: redis.Redis) -> Iterator[Desk]:
    """The desk of that model."""
    with closing(OpenAiCompatible("fake", endpoint.url)) as model:
        yield Desk(model, database, valkey, wait_seconds=2)
