"""Calls: one prepared statement in a message of its own, without a pipeline.

A pipeline with one statement takes the client twice as long.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from psycopg import Connection, OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from skald.postgres.interface import Statement


class Calls:
    """The statements called on one connection, each prepared at its first call.

    Behind a transaction pooler nothing stays prepared, so each call brings its statement.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._adapt = Transformer(connection)
        self._names: dict[str, bytes] = {}

    def rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement whose parameters are `$1`, `$2`, ...

        Bytes are sent as they are, all other values as text; PostgreSQL gives them the type that
        the statement expects. Results are binary.
        """
        result = self._sent(query, self._dumped(values))
        if result.status != ExecStatus.TUPLES_OK:
            raise self._error(result)
        self._adapt.set_pgresult(result)
        return self._adapt.load_rows(0, result.ntuples, tuple)

    def statement(self, query: str, values: Sequence[Any]) -> Statement:
        """Return such a statement, to be sent together with others."""
        sent = self._dumped(values)
        return Statement(query.encode(), (0,) * len(values), sent, self._adapt.formats)

    def _dumped(self, values: Sequence[Any]) -> Sequence[Any]:
        return self._adapt.dump_sequence(values, _formats(tuple(map(type, values))))

    def _sent(self, query: str, values: Sequence[Any]) -> PGresult:
        pgconn, formats = self._connection.pgconn, self._adapt.formats
        if self._connection.prepare_threshold is None:
            return pgconn.exec_params(query.encode(), values, None, formats, Format.BINARY)
        if query not in self._names:
            name = b"skald_%d" % len(self._names)
            prepared = pgconn.prepare(name, query.encode())
            if prepared.status != ExecStatus.COMMAND_OK:
                raise self._error(prepared)
            self._names[query] = name
        return pgconn.exec_prepared(self._names[query], values, formats, Format.BINARY)

    def _error(self, result: PGresult) -> Exception:
        if self._connection.closed:  # libpq tells so without one of the server's codes
            return OperationalError(result.get_error_message())
        return error_from_result(result)


@cache
def _formats(types: tuple[type, ...]) -> Sequence[PyFormat]:
    return [PyFormat.BINARY if one in (bytes, list) else PyFormat.TEXT for one in types]
