"""A new interpreter that knows the import paths of a function's cold start."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATHS = (ROOT / "functions", ROOT / "layers/core")


def output_of(program: str, *arguments: str) -> str:
    """Return the last line that a program prints."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.splitlines()[-1]


def modules_after(program: str, *arguments: str) -> set[str]:
    """Return the modules that are loaded when a program has ended."""
    listing = "\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    return set(json.loads(output_of(program + listing, *arguments)))
