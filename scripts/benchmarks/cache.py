"""Benchmarks of cache hits: in this process, and in Redis."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any, ClassVar

import cashews  # type: ignore[import-not-found]

from benchmarks.harness import Benchmark, per_second
from benchmarks.servers import Servers
from skald.valkey import connect
from skald.valkey.cache import LOCAL_ENTRIES, Cache, Level

TTL = 600
_VALUE = {"status": "completed", "summary": "x" * 300, "findings": [{"rule": n} for n in range(5)]}


class _Hit(Benchmark):
    """Reads keys that are already cached; `level` is where our cache must find them."""

    target = 1.0
    keys: ClassVar[int]
    reads: ClassVar[int]
    level: ClassVar[Level]

    def __init__(self, servers: Servers, resources: ExitStack) -> None:
        client = connect(servers.redis_dsn)
        resources.callback(client.close)
        self._cache = Cache(client)
        self._loop = resources.enter_context(asyncio.Runner())
        self._peer = cashews.Cache()
        self._peer.setup(self._backend(servers))
        resources.callback(lambda: self._loop.run(self._peer.close()))
        names = [f"{self.level}:{number}" for number in range(self.keys)]
        self._names = list(islice(cycle(names), self.reads))
        for name in names:
            self._cache.get_or_load(name, lambda: _VALUE, TTL)
            self._loop.run(self._peer.set(f"peer:{name}", _VALUE, expire=TTL))

    def ours(self) -> float:
        rate = per_second(self.reads, self._read_ours)
        if self._cache.statistics()[self.level] < 0.5:
            raise AssertionError(f"these hits were not in the {self.level}")
        return rate

    def peer(self) -> float:
        return per_second(self.reads, lambda: self._loop.run(self._read_peer()))

    @staticmethod
    @abstractmethod
    def _backend(_servers: Servers) -> str:
        """Return the address for the setup of cashews."""

    def _read_ours(self) -> None:
        for name in self._names:
            self._cache.get_or_load(name, _not_loaded, TTL)

    async def _read_peer(self) -> None:
        read: Callable[..., Awaitable[Any]] = self._peer.get_or_set
        for name in self._names:
            await read(f"peer:{name}", _not_loaded, expire=TTL)


class ProcessHit(_Hit):
    name = "cache hit in process"
    compares = "get_or_load / cashews get_or_set on mem://"
    limited_by = "one poll of the invalidation socket per read, now most of it; cashews needs none"
    keys, reads, level = 100, 20_000, "process"

    @staticmethod
    def _backend(_servers: Servers) -> str:
        return "mem://"


class RedisHit(_Hit):
    name = "cache hit in Redis"
    compares = "get_or_load past what a process keeps / cashews get_or_set on redis://"
    limited_by = "one GET, then the bookkeeping of a flight that joins concurrent readers"
    # The keys are read in turn and exceed what a process keeps, so each read goes to Redis.
    keys, reads, level = 2 * LOCAL_ENTRIES, 4_000, "redis"

    @staticmethod
    def _backend(servers: Servers) -> str:
        return servers.redis_dsn


def _not_loaded() -> Any:
    raise AssertionError("a cached value was loaded again")
