"""What a transaction needs of a connection, and no more.

`PipelinedConnection` is the only implementation. Another one replaces it in `pool.py` alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from psycopg.abc import Buffer
from psycopg.pq import Format

type Parameters = Sequence[Any] | Mapping[str, Any]
type RowMaker[Row] = Callable[[Sequence[Any]], Row]
type Reply = Any
"""What the server sent back for one statement: only its connection can read it."""
type Call = Callable[..., list[tuple[Any, ...]]]
"""`Database.call` for one tenant, or `Transaction.call`."""


class Statement(NamedTuple):
    """A query and its values, ready to be sent."""

    query: bytes
    types: tuple[int, ...] = ()
    values: Sequence[Buffer | None] = ()
    formats: Sequence[Format] | None = None


class Rows[Row]:
    """The rows a statement returned, to be read once, and how many rows it touched."""

    def __init__(self, rows: Iterable[Row], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def fetchone(self) -> Row | None:
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        return list(self._rows)


class Connection(Protocol):
    """A connection that sends many statements in one message."""

    opened_at: float
    """Seconds since 1970."""
    succeeded: int
    """Statements of the last message before the first that failed."""

    @property
    def closed(self) -> bool:
        """Whether it was closed or lost."""

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is open on it."""

    @property
    def has_failed(self) -> bool:
        """Whether its transaction has met an error and can only be rolled back."""

    def statement(self, query: str, parameters: Parameters = ()) -> Statement:
        """Return a query with psycopg's placeholders and the values for them."""

    def numbered(self, query: str, values: Sequence[Any]) -> Statement:
        """Return a query whose parameters are `$1`, `$2`, ..."""

    def exchange(self, statements: Iterable[Statement]) -> list[Reply]:
        """Send statements in one message and return the answer to each.

        Outside of a transaction they are a transaction of their own. Raises the error of the first
        that failed; those after it did not run.
        """

    def rows[Row](
        self, answer: Reply, row_maker: Callable[[list[str]], RowMaker[Row]]
    ) -> Rows[Row]:
        """Return the rows of an answer; `row_maker` gets the names of its columns."""

    def call(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of one `numbered` query, sent by itself outside of a transaction."""

    def rollback(self) -> None:
        """Roll the open transaction back."""

    def close(self) -> None:
        """Close the connection; an open transaction rolls back."""

    def is_quiet(self) -> bool:
        """Say whether the server has sent nothing since the last answer: a farewell, for one."""

    def is_alive(self) -> bool:
        """Ask the server for a sign of life, and wait for it for a short time."""
