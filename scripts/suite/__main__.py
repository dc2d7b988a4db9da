"""`python -m suite ARGUMENT...`: scripts/test, once the environment stands."""

import os
import sys
from pathlib import Path

from suite import checks, environment
from suite.request import ROOT, USAGE, UsageError, read


def main() -> int:
    """Run the checks that are asked for, then become pytest."""
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
    if request.lint or request.everything:
        if not checks.run(checks.all_checks()):
            return 1
        if request.lint and not request.tests:
            return 0
    environment.ensure_for(request.tests)
    # Becoming pytest, not starting it, leaves the terminal to a debugger.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *request.tests, *request.options])  # noqa: S606
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
