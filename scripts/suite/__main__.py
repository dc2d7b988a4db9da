"""`python -m suite ARGUMENT...`: scripts/test runs it after it has built the environment."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from suite import changed, checks, environment, lanes
from suite.request import ROOT, USAGE, Request, UsageError, read


def main() -> int:
    """Run the checks and tests that the arguments select; return the exit code."""
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
    os.environ.pop("PYTHONPATH", None)  # only for this program; pytest and mypy set their own
    try:
        return _run_changed(request) if request.changed else _run(request)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
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
        _become_pytest(request.tests, request.options)
    return lanes.run(shared)


def _run_changed(request: Request) -> int:
    since, paths = changed.changed_files(request.base)
    touched = changed.touched(paths)
    asked = [test.removeprefix("tests/") for test in request.tests]
    tests, named = changed.to_run(touched, asked), changed.left_out(touched, asked)
    lines = [f"{len(paths)} files differ from {since[:9]}", *(f"  {one}" for one in touched)]
    if named:
        lines.append(f"not run, as they take minutes: scripts/test {' '.join(named)}")
    sys.stderr.write("\n".join(lines) + "\n")
    files = [path for path in paths if path.endswith(".py") and Path(path).exists()]
    if files and not checks.run([checks.TYPES, *checks.on_sources(files)]):
        return 1
    if tests:
        environment.ensure_for(tests)
        _become_pytest(tests, request.options)
    sys.stderr.write("no test to run\n")
    return 0


def _become_pytest(tests: Sequence[str], options: Sequence[str]) -> None:
    """Replace this process by one pytest, so that a debugger can use the terminal."""
    command = [sys.executable, "-m", "pytest", *tests, *options]
    os.execv(sys.executable, command)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
