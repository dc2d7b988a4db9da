"""Builds the environments that only some tests and checks need, with scripts/_bootstrap.sh."""

import subprocess
from collections.abc import Sequence

from suite.request import ROOT

# These tests start a platform or deploy the template, so they need LocalStack and sam.
_ON_PLATFORM = ("tests/platform", "tests/e2e", "tests/chaos")


def ensure_for(tests: Sequence[str]) -> None:
    """Build the environments that these tests need; without tests, build all."""
    if not tests or any(_on_platform(test) for test in tests):
        _bootstrap("ensure_platform_env", "ensure_tools_env")


def ensure_tools() -> None:
    """Build the environment of sam and cfn-lint."""
    _bootstrap("ensure_tools_env")


def _on_platform(test: str) -> bool:
    return test in ("tests", "") or test.startswith(_ON_PLATFORM)


def _bootstrap(*functions: str) -> None:
    script = "; ".join(["set -euo pipefail", ". scripts/_bootstrap.sh", *functions])
    subprocess.run(["/usr/bin/env", "bash", "-c", script], cwd=ROOT, check=True)
