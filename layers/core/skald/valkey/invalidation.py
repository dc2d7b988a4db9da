"""Invalidations without a thread: a subscription that is read before each answer (G-06)."""

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
    """What other processes invalidated since the last look.

    A listening thread would stop in a frozen environment, and its messages would arrive after the
    first stale answer. A socket keeps them, to be read before an answer. After a freeze the
    connection may be lost without notice. So a connection that proved nothing for `TRUSTED_SECONDS`
    of wall-clock time must answer a ping first: Redis keeps the order, so no earlier message comes
    after the pong.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._socket = select.poll()
        self._proven_at = 0.0

    def heard(self, client: redis.Redis) -> list[str]:
        """Return the patterns published since the last call.

        A new subscription may have missed some, so it returns `EVERYTHING`. Raises `RedisError`
        when it cannot subscribe.
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
        """Say whether a trusted connection has nothing to read; `_pending` reads all there is."""
        return self._is_trusted() and not self._socket.poll(0)

    def _is_trusted(self) -> bool:
        # Backwards, too: a clock that was set does not say how long the freeze was.
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
            # The client closed the connection and opened another one, which has no subscription.
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
        # Not proven yet: what arrived with the answer is in a buffer, where a poll misses it.
        self._socket = select.poll()
        self._socket.register(self._connection._sock, select.POLLIN)

    def _leave(self, client: redis.Redis) -> None:
        connection, self._connection = self._connection, None
        self._proven_at = 0.0
        connection.disconnect()
        client.connection_pool.release(connection)
