"""`python -m suite ARGUMENT...`: scripts/test, once the environment stands."""

import os
import sys
from pathlib import Path

from suite import checks, environment, lanes
from suite.request import ROOT, USAGE, Request, UsageError, read


def main() -> int:
    """Run what is asked for and return the exit code."""
    words = sys.argv[1:]
    if words[:1] in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    try:
        request = read(words, Path.cwd())
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n\n{USAGE}")
        return 2
    os.chdir(ROOT)
    os.environ.pop("PYTHONPATH", None)  # led Python here; pytest and mypy have paths of their own
    try:
        return _run(request)
    except KeyboardInterrupt:
        return 130


def _run(request: Request) -> int:
    if (request.lint or request.everything) and not checks.run(checks.all_checks()):
        return 1
    if request.lint and not request.tests:
        return 0
    environment.ensure_for(request.tests)
    shared = lanes.lanes_of(request.tests)
    if request.options or len(shared) == 1:
        _become_pytest(request)
    return lanes.run(shared)


def _become_pytest(request: Request) -> None:
    """Run one pytest instead of this process, which leaves the terminal to a debugger."""
    command = [sys.executable, "-m", "pytest", *request.tests, *request.options]
    os.execv(sys.executable, command)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
