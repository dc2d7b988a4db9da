"""A cache of three levels: this process, Redis, and a loader of the truth (G-06, P-08, V-10)."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from skald.valkey import entries
from skald.valkey.client import BestEffort, valkey
from skald.valkey.entries import LOADING_SECONDS
from skald.valkey.invalidation import Invalidations

if TYPE_CHECKING:
    import redis

LOCAL_SECONDS = 10.0
LOCAL_ENTRIES = 1000
_POLL_SECONDS = 0.02

type Level = Literal["process", "redis", "database"]


class _Kept(NamedTuple):
    value: Any
    until: float


class _Answer(NamedTuple):
    """A value, and whether Redis holds it, too: only then may this process keep it."""

    value: Any
    is_shared: bool


class Cache:
    """JSON values, each under its whole key and for its own `ttl` in seconds.

    A process keeps a value for `LOCAL_SECONDS` of wall-clock time and returns the same object to
    every caller: do not change it. One caller loads a miss for all: threads share one flight,
    processes one lease in Redis. A caller that waits longer than `LOADING_SECONDS`, or finds no
    Redis, loads for itself. An error of a loader goes to its callers and is not kept.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = BestEffort(client, "cache")
        self._invalidations = Invalidations()
        self._local: OrderedDict[str, _Kept] = OrderedDict()
        self._flights: dict[str, Future[Any]] = {}
        self._owed: set[str] = set()
        self._answers: Counter[Level] = Counter()
        self._guard = threading.RLock()

    def get_or_load(self, key: str, load: Callable[[], Any], ttl: int) -> Any:
        """Return the value under `key`; on a miss call `load` for it."""
        with self._guard:
            self._listen()
            kept = self._local.get(key)
            if kept is not None and kept.until > time.time():
                self._answers["process"] += 1
                return kept.value
            flight = self._flights.get(key)
            if leads := flight is None:
                flight = self._flights[key] = Future()
        return self._fly(flight, key, load, ttl) if leads else self._wait(flight, load)

    def write_through[V](self, key: str, value: V, write: Callable[[V], None], ttl: int) -> None:
        """Change the truth with `write`, which commits, and the cache with it.

        The entry is empty and reserved during the write: a reader gets the truth and stores
        nothing, and a process that dies leaves nothing stale. When one of the writes fails, the
        entry is invalidated. Raises the errors of `write`. No product uses this yet: grading will,
        for the review of a person (G-08).
        """
        fill = self.reserve(key, value, ttl)
        try:
            write(value)
        except BaseException:
            self.invalidate(key)
            raise
        fill()

    def reserve(self, key: str, value: Any, ttl: int) -> Callable[[], None]:
        """Empty an entry during a write. Returns a function that fills it after the commit.

        Use it for a write in the caller's transaction, while that transaction keeps other writers
        out: then the last one to commit fills the entry. After a rollback the entry stays empty
        until the lease of the writer ends, and readers get the truth.
        """
        token, text = entries.writer_token(), _encode(value)
        reserved = self._redis.attempt(
            lambda client: entries.reserve(client, key, token), False, insist=True
        )

        def fill() -> None:
            if reserved and self._fill(key, token, text, ttl):
                self._drop(key)
            else:
                self.invalidate(key)

        return fill

    def invalidate(self, pattern: str) -> int:
        """Drop a key, or all keys that fit a pattern with `*`, here, in Redis and in every process.

        Call it after the commit. Returns how many entries Redis held. Without Redis it is done
        later, before this process reads Redis again. A pattern reads all keys of Redis.
        """
        dropped = self._redis.attempt(
            lambda client: entries.forget(client, pattern), None, insist=True
        )
        with self._guard:
            if dropped is None:
                self._owed.add(pattern)
            self._drop(pattern)
        return dropped or 0

    def statistics(self) -> dict[str, float]:
        """Return the share of answers of each level, from 0 to 1 (G-17)."""
        with self._guard:
            total = self._answers.total()
            return {level: count / total for level, count in self._answers.items()}

    def _listen(self) -> None:
        """Drop what other processes invalidated. Without their messages no local value is used."""
        patterns = self._redis.attempt(self._invalidations.heard, None)
        if patterns is None:
            self._local.clear()
        for pattern in patterns or ():
            self._drop(pattern)

    def _drop(self, pattern: str) -> None:
        # An open flight is dropped, too: it may carry the old value. Later readers start another
        # one.
        with self._guard:
            for key in entries.matching(pattern, self._local):
                self._local.pop(key, None)
            for key in entries.matching(pattern, self._flights):
                self._flights.pop(key, None)

    def _wait(self, flight: Future[Any], load: Callable[[], Any]) -> Any:
        try:
            return flight.result(LOADING_SECONDS)
        except TimeoutError:
            return self._load(load)[0]

    def _fly(self, flight: Future[Any], key: str, load: Callable[[], Any], ttl: int) -> Any:
        try:
            answer = self._answer(key, load, ttl)
        except BaseException as error:
            self._land(flight, key, None)
            flight.set_exception(error)
            raise
        kept = _Kept(answer.value, time.time() + min(LOCAL_SECONDS, ttl))
        self._land(flight, key, kept if answer.is_shared else None)
        flight.set_result(answer.value)
        return answer.value

    def _land(self, flight: Future[Any], key: str, kept: _Kept | None) -> None:
        with self._guard:
            if self._flights.get(key) is not flight:
                return  # Invalidated during the load.
            del self._flights[key]
            if kept is not None:
                while len(self._local) >= LOCAL_ENTRIES:
                    self._local.popitem(last=False)
                self._local[key] = kept

    def _answer(self, key: str, load: Callable[[], Any], ttl: int) -> _Answer:
        text = self._redis.attempt(lambda client: self._read(client, key), None)
        return self._load_once(key, load, ttl) if text is None else self._shared(text)

    def _read(self, client: redis.Redis, key: str) -> str | None:
        if self._owed:
            with self._guard:
                for pattern in list(self._owed):
                    entries.forget(client, pattern)
                    self._owed.discard(pattern)
        return entries.read(client, key)

    def _load_once(self, key: str, load: Callable[[], Any], ttl: int) -> _Answer:
        token = entries.reader_token()
        deadline = time.monotonic() + LOADING_SECONDS
        found: str | int | None = entries.HELD
        while found == entries.HELD and time.monotonic() < deadline:
            found = self._redis.attempt(lambda client: entries.claim(client, key, token), None)
            if isinstance(found, str):
                return self._shared(found)
            if found == entries.CLAIMED:
                return self._load_holding(key, token, load, ttl)
            if found == entries.HELD:
                time.sleep(_POLL_SECONDS)
        return _Answer(self._load(load)[0], is_shared=False)

    def _load_holding(self, key: str, token: str, load: Callable[[], Any], ttl: int) -> _Answer:
        try:
            value, text = self._load(load)
        except BaseException:
            self._redis.attempt(lambda client: entries.release(client, key, token), None)
            raise
        return _Answer(value, is_shared=self._fill(key, token, text, ttl))

    def _fill(self, key: str, token: str, text: str, ttl: int) -> bool:
        return self._redis.attempt(
            lambda client: entries.fill(client, key, token, text, ttl), False
        )

    def _load(self, load: Callable[[], Any]) -> tuple[Any, str]:
        self._count("database")
        text = _encode(load())
        # Every reader gets the value after its way through JSON, also the first one.
        return json.loads(text), text

    def _shared(self, text: str) -> _Answer:
        self._count("redis")
        return _Answer(json.loads(text), is_shared=True)

    def _count(self, level: Level) -> None:
        with self._guard:
            self._answers[level] += 1


def cache() -> Cache:
    """Return the cache of this process."""
    return _cache_on(valkey())


@functools.cache
def _cache_on(client: redis.Redis) -> Cache:
    return Cache(client)


def _encode(value: Any) -> str:
    return json.dumps(value, default=str)
