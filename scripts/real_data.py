"""Finds the folder of real data: published recordings, logs, exams and texts, with their truth."""

import os
from pathlib import Path

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


def real_data(*parts: str) -> Path:
    """Return a path below `SKALD_DATA`.

    The default is `shared/data` beside the checkout. The folder may be missing.
    """
    return Path(os.environ.get("SKALD_DATA") or _BESIDE, *parts)
