"""scripts/_bootstrap.sh finds a uv that really runs."""

import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT


def _bash(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (our own text)
        ["/bin/bash", "-c", f". scripts/_bootstrap.sh; {script}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "usable"),
    [
        ("echo 'uv 0.13.9 (x86_64-unknown-linux-gnu)'", True),
        ("echo 'uv 1.0.0'", True),
        ("echo 'uv 0.7.22'", False),
        ("echo 'pyenv: uv: command not found' >&2; exit 127", False),
    ],
    ids=["new enough", "newer", "too old", "broken shim"],
)
def test_only_a_uv_that_runs_and_is_new_enough_is_used(
    tmp_path: Path, body: str, usable: bool
) -> None:
    fake = tmp_path / "uv"
    fake.write_text(f"#!/bin/sh\n{body}\n")
    fake.chmod(0o755)
    assert (_bash(f"_usable_uv {fake}").returncode == 0) is usable


def test_lock_of_a_killed_script_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.run(["/bin/sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    lock = tmp_path / "bootstrap.lock"
    lock.write_text(ended.stdout)
    outcome = _bash(f"SKALD_LOCAL={tmp_path}; _lock bootstrap && cat {lock}; _unlock bootstrap")
    assert outcome.stdout.strip() not in {"", ended.stdout.strip()}
    assert not lock.exists()
