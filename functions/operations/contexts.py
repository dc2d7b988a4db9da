"""All contexts. Operations serve every context and import none by name."""

from functools import cache
from pathlib import Path

from skald.context import Contexts, discover


@cache
def contexts() -> Contexts:
    """Return the contexts in the folders next to this one."""
    return discover(Path(__file__).parents[1])
