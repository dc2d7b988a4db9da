"""What tests of every tier may ask for."""

from pathlib import Path

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Load what is slow to import only where a module uses it, and before that is imported."""
    source = module_path.read_text(encoding="utf-8")
    if "from hypothesis " in source:
        import tests.hypothesis_profile  # noqa: F401
    if "import schemathesis" in source:
        parent.config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


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
