"""Prints the import rules of pyproject.toml, with the rules for all contexts added.

A context is a folder with a `context.py`. So the rules apply to a new context without any edit.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ENTRY_POINTS = "context | (api) | (steps) | (consumers) | (schedules)"


def rules(root: Path) -> dict[str, Any]:
    """Return the settings of import-linter for the contexts in `root/functions`."""
    settings: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())
    rules: dict[str, Any] = settings["tool"]["importlinter"]
    contexts = sorted(file.parent.name for file in root.glob("functions/*/context.py"))
    rules["root_packages"] += contexts
    rules["contracts"] += [
        {
            "name": "The kernel knows no context",
            "type": "forbidden",
            "source_modules": ["skald"],
            "forbidden_modules": contexts,
        },
        {
            "name": "Contexts know no other context",
            "type": "independence",
            "modules": contexts,
        },
        {
            "name": "Inside a context: entry points, then storage, then domain",
            "type": "layers",
            "containers": contexts,
            "layers": [ENTRY_POINTS, "(repository)", "(domain)"],
        },
    ]
    return rules


def as_toml(rules: dict[str, Any]) -> str:
    """Return the rules as TOML for import-linter; lists and texts in JSON are valid TOML."""
    contracts = rules.pop("contracts")
    tables = [("[tool.importlinter]", rules)]
    tables += [("[[tool.importlinter.contracts]]", contract) for contract in contracts]
    return "\n".join(
        line
        for header, table in tables
        for line in [header, *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    )


if __name__ == "__main__":
    sys.stdout.write(as_toml(rules(Path.cwd())))
