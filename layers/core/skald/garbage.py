"""When Python looks for garbage: seldom, in functions that start often and then do little."""

import gc

NEW_OBJECTS = 200_000
"""Twice what an HTTP function imports; Python's own number is 2,000."""


def collect_rarely() -> None:
    """Look for cyclic garbage each time so many objects are new, which is not while importing.

    What is imported stays, so looking through it again and again is lost time: a tenth of a cold
    start. A context calls this before it imports anything else.
    """
    gc.set_threshold(NEW_OBJECTS)
