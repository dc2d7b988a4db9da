"""Fixtures for tests of every tier."""

from pathlib import Path

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

_without_data = pytest.StashKey[bool]()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Load a slow library only if a module uses it, and before the module is imported."""
    source = module_path.read_text(encoding="utf-8")
    if "from hypothesis " in source:
        import tests.hypothesis_profile  # noqa: F401
    if "import schemathesis" in source:
        parent.config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


def real_data_folder() -> Path:
    """Return the folder of the real data. It imports late, as programs of tests import this
    module."""
    from real_data import real_data

    return real_data()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need real data if there is none."""
    if real_data_folder().is_dir():
        return
    asking = [item for item in items if "real_data" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=asking)
    config.stash[_without_data] = bool(asking)
    items[:] = [item for item in items if item not in asking]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which tests were deselected, and how to run them."""
    left_out = config.stash.get(_without_data, False)
    in_workers = bool(getattr(config.option, "numprocesses", None))
    if left_out or (in_workers and not real_data_folder().is_dir()):
        terminalreporter.write_line(
            f"Tests of real data are left out, as there is none at {real_data_folder()}: set "
            "SKALD_DATA to its folder, tests/README.md says what it holds"
        )


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


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data. A test that uses it is deselected if it is missing."""
    return real_data_folder()
