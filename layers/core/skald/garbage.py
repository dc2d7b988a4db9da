"""How often Python collects garbage: rarely, because functions start often and run briefly."""

import gc

NEW_OBJECTS = 200_000
"""Twice what an HTTP function imports. Python's default is 2,000."""


def collect_rarely() -> None:
    """Collect cyclic garbage only after `NEW_OBJECTS` new objects, so not during imports.

    Imported objects stay, so a search among them finds nothing and takes a tenth of a cold start. A
    context calls this before its other imports.
    """
    gc.set_threshold(NEW_OBJECTS)
