"""Probes of an idle connection: whether it is still usable, in bounded time (G-01)."""

import select
from typing import Any

from psycopg import Connection, Error
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

ANSWER_SECONDS = 2.0


def is_quiet(connection: Connection[Any]) -> bool:
    """Return whether nothing has arrived: a server that closes a connection says so."""
    return not _readable(connection, 0)


def answers(connection: Connection[Any]) -> bool:
    """Return whether the server answers an empty query within `ANSWER_SECONDS`."""
    pgconn = connection.pgconn
    try:
        pgconn.send_query(b"")
        pgconn.flush()
        while pgconn.is_busy():
            if not _readable(connection, ANSWER_SECONDS):
                return False
            pgconn.consume_input()
        return _is_empty(pgconn.get_result()) and pgconn.get_result() is None
    except Error:
        return False


def _is_empty(result: PGresult | None) -> bool:
    # A message that the server closes the connection is a result too.
    return result is not None and result.status == ExecStatus.EMPTY_QUERY


def _readable(connection: Connection[Any], seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(seconds * 1000))
