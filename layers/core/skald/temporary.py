"""Errors that a retry may cure, and those it cannot."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from skald.errors import Temporary, Unavailable


def is_temporary(error: BaseException) -> bool:
    """Say whether an error is a lost connection, a lock timeout or a throttled call."""
    if isinstance(error, Temporary | Unavailable | psycopg.OperationalError):
        return True
    # Compared by name, so that a function without AWS or Redis does not import their clients.
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return not kinds.isdisjoint(
        {
            ("redis", "ConnectionError"),
            ("redis", "TimeoutError"),
            ("botocore", "HTTPClientError"),
            ("botocore", "ConnectionError"),
        }
    )


@contextmanager
def temporary_errors() -> Iterator[None]:
    """Raise `Temporary` for an error that a retry may cure; state machines retry by that name."""
    try:
        yield
    except Exception as error:
        if is_temporary(error):
            raise Temporary(f"{type(error).__name__}: {error}") from error
        raise
