"""What tests of every tier may ask for, and how much a property is tried."""

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext
from hypothesis import HealthCheck, settings

settings.register_profile(
    "skald",
    max_examples=100,
    deadline=None,  # real servers on a shared machine
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("skald")


class Context(LambdaContext):
    """The context of one Lambda invocation with this much time left."""

    def __init__(self, remaining_milliseconds: int = 30_000) -> None:
        self._function_name = "test"
        self._memory_limit_in_mb = 512
        self._invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:test"
        self._aws_request_id = "00000000-0000-0000-0000-000000000000"
        self.remaining_milliseconds = remaining_milliseconds

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]  # static over there
        return self.remaining_milliseconds


@pytest.fixture
def context() -> Context:
    """A Lambda context with half a minute left."""
    return Context()
