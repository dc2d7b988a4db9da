"""Builds what only some tests and checks need; scripts/_bootstrap.sh does the work."""

import subprocess
from collections.abc import Sequence

from suite.request import ROOT

# LocalStack and sam are needed where a platform is started or the template deployed.
_ON_PLATFORM = ("tests/platform", "tests/e2e", "tests/chaos")


def ensure_for(tests: Sequence[str]) -> None:
    """Build the environments these tests need; all of them where none is named."""
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
