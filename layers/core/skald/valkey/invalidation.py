"""Hearing of invalidations without a thread: a subscription read when it matters (G-06)."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

CHANNEL = "channel:cache_invalidation"
TRUSTED_SECONDS = 0.1
EVERYTHING = "*"


class Invalidations:
    """What other processes invalidated since we last looked.

    A listening thread would stand still in a frozen environment, and its news would come after
    the first stale answer. A socket does not: what was published waits in it, to be read before an
    answer is given. But after a sleep the connection may be lost without our knowing. So where it
    has not proven itself for `TRUSTED_SECONDS` of wall-clock time, it has to answer a ping first:
    Redis keeps the order, nothing published earlier can come after its pong.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._socket = select.poll()
        self._proven_at = 0.0

    def heard(self, client: redis.Redis) -> list[str]:
        """Return the patterns published since the last call.

        A new subscription may have missed some: it returns `EVERYTHING`. Raises `RedisError` where
        there is no subscription to be had.
        """
        if self._is_silent():
            return []
        from redis import RedisError

        if self._connection is not None:
            try:
                return self._pending()
            except RedisError:
                self._leave(client)
        self._subscribe(client)
        return [EVERYTHING]

    def _is_silent(self) -> bool:
        """Say whether a trusted connection has nothing to read: `_pending` leaves none behind."""
        return self._is_trusted() and not self._socket.poll(0)

    def _is_trusted(self) -> bool:
        # Backwards too: a clock that was set proves nothing about how long we slept.
        return abs(time.time() - self._proven_at) <= TRUSTED_SECONDS

    def _pending(self) -> list[str]:
        must_ask = not self._is_trusted()
        if must_ask:
            self._connection.send_command("PING", check_health=False)
        patterns = []
        while must_ask or self._connection.can_read():
            kind, *rest = self._read()
            if kind == "pong":
                must_ask = False
                self._proven_at = time.time()
            else:
                patterns.append(str(rest[-1]))
        return patterns

    def _read(self) -> list[Any]:
        from redis import ConnectionError as Lost

        answer = self._connection.read_response()
        if not isinstance(answer, list):
            # The connection was closed and opened again behind our back: nobody is subscribed.
            raise Lost("the subscription is gone")
        return answer

    def _subscribe(self, client: redis.Redis) -> None:
        self._connection = client.connection_pool.get_connection()
        try:
            self._connection.send_command("SUBSCRIBE", CHANNEL, check_health=False)
            self._read()
        except BaseException:
            self._leave(client)
            raise
        # Not proven yet: what came along with the answer is in a buffer, where a poll misses it.
        self._socket = select.poll()
        self._socket.register(self._connection._sock, select.POLLIN)

    def _leave(self, client: redis.Redis) -> None:
        connection, self._connection = self._connection, None
        self._proven_at = 0.0
        connection.disconnect()
        client.connection_pool.release(connection)
