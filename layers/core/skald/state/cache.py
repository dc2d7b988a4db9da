"""Read-through cache in Redis where a cold key is loaded once, however many ask (V-10)."""

import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from skald.telemetry import logger, metrics

LOADING_SECONDS = 10.0
_POLL_SECONDS = 0.02
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


class Cache:
    """JSON values under `<prefix>:<key>` for `ttl` seconds.

    A miss is loaded by one caller: threads of a process queue on a lock, functions on a Redis
    lease. Whoever waits longer than `LOADING_SECONDS`, or finds Redis gone, loads for itself.
    """

    def __init__(self, client: redis.Redis, prefix: str, ttl: int) -> None:
        self._client = client
        self._prefix = prefix
        self._ttl = ttl
        self._flights: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def get_or_load(self, key: str, load: Callable[[], Any]) -> Any:
        """Return the value under `key`, calling `load` for it when nobody has it."""
        name = f"{self._prefix}:{key}"
        try:
            value = self._read(name)
            if value is None:
                with self._flight(name):
                    value = self._read(name) or self._load_once(name, load)
            return value
        except redis.RedisError:
            logger.warning("cache bypassed because Redis does not answer")
            metrics.count("cache_fallbacks_count")
            return load()

    def forget(self, key: str) -> None:
        """Drop a value; a Redis that is gone has forgotten it already."""
        try:
            self._client.delete(f"{self._prefix}:{key}")
        except redis.RedisError:
            logger.warning("cache entry left to its expiry because Redis does not answer")

    def _flight(self, name: str) -> threading.Lock:
        with self._guard:
            return self._flights.setdefault(name, threading.Lock())

    def _read(self, name: str) -> Any:
        text = self._client.get(name)
        return None if text is None else json.loads(str(text))

    def _load_once(self, name: str, load: Callable[[], Any]) -> Any:
        lease, token = f"{name}:loading", secrets.token_hex(8)
        deadline = time.monotonic() + LOADING_SECONDS
        while time.monotonic() < deadline:
            if self._client.set(lease, token, nx=True, px=int(LOADING_SECONDS * 1000)):
                return self._load_holding(name, lease, token, load)
            time.sleep(_POLL_SECONDS)
            if (value := self._read(name)) is not None:
                return value
        return load()

    def _load_holding(self, name: str, lease: str, token: str, load: Callable[[], Any]) -> Any:
        try:
            # Its last holder may have filled the key between our look and our lease.
            value = self._read(name)
            if value is None:
                value = load()
                self._client.set(name, json.dumps(value, default=str), ex=self._ttl)
            return value
        finally:
            self._client.eval(_RELEASE, 1, lease, token)
