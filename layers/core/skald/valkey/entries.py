"""Cache entries in Redis, and the leases that give the right to fill them (G-06).

The holder of the lease of an entry fills it after a miss. An invalidation takes the lease away
first, so a value that was read before a change cannot be stored after it. The lease of a writer
says that the truth changes: no reader waits for it, and no reader stores a value.

Every function raises `RedisError`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from itertools import batched
from typing import TYPE_CHECKING

from skald.valkey.invalidation import CHANNEL

if TYPE_CHECKING:
    import redis

LOADING_SECONDS = 10.0
WRITING_SECONDS = 120.0
_KEYS_PER_CALL = 1000
_WRITER = "write:"

CLAIMED, HELD, BEING_WRITTEN = 1, 0, -1

_CLAIM = """
local value = redis.call('GET', KEYS[1])
if value then return value end
local holder = redis.call('GET', KEYS[2])
if not holder then
    holder = ARGV[1]
    redis.call('SET', KEYS[2], holder, 'PX', ARGV[2])
end
if holder == ARGV[1] then return 1 end
return string.sub(holder, 1, 6) == 'write:' and -1 or 0
"""
_RESERVE = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return redis.call('PUBLISH', ARGV[3], KEYS[1])
"""
_FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return redis.call('DEL', KEYS[2])
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


def reader_token() -> str:
    return secrets.token_hex(8)


def writer_token() -> str:
    return _WRITER + secrets.token_hex(8)


def read(client: redis.Redis, key: str) -> str | None:
    text = client.get(key)
    return None if text is None else str(text)


def claim(client: redis.Redis, key: str, token: str) -> str | int:
    """Return the value, or the state of the lease: `CLAIMED`, `HELD` or `BEING_WRITTEN`."""
    milliseconds = int(LOADING_SECONDS * 1000)
    found: str | int = client.eval(_CLAIM, 2, key, _lease(key), token, milliseconds)
    return found


def reserve(client: redis.Redis, key: str, token: str) -> bool:
    """Empty an entry everywhere, until it is filled or the lease of the writer ends."""
    milliseconds = int(WRITING_SECONDS * 1000)
    client.eval(_RESERVE, 2, key, _lease(key), token, milliseconds, CHANNEL)
    return True


def fill(client: redis.Redis, key: str, token: str, text: str, ttl: int) -> bool:
    """Store a value if the lease still holds, and say whether it did."""
    return bool(client.eval(_FILL, 2, key, _lease(key), token, text, ttl))


def release(client: redis.Redis, key: str, token: str) -> None:
    """Let the next caller load, because this load failed."""
    client.eval(_RELEASE, 1, _lease(key), token)


def forget(client: redis.Redis, pattern: str) -> int:
    """Drop a key, or all keys that fit a pattern with `*`, in every process; return how many."""
    # Leases first: an entry that is filled before its lease is found is then found itself.
    _delete(client, _lease(pattern))
    dropped = _delete(client, pattern)
    client.publish(CHANNEL, pattern)
    return dropped


def matching(pattern: str, keys: Iterable[str]) -> list[str]:
    """Return the keys that match a pattern. Only `*` is special."""
    if "*" not in pattern:
        return [pattern]
    fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch
    return [key for key in keys if fits(key)]


def _lease(key: str) -> str:
    return f"loading:{key}"


def _delete(client: redis.Redis, pattern: str) -> int:
    if "*" not in pattern:
        return int(client.delete(pattern))
    glob = re.sub(r"([\[\]?^\\])", r"\\\1", pattern)
    keys = client.scan_iter(match=glob, count=_KEYS_PER_CALL)
    return sum(int(client.unlink(*some)) for some in batched(keys, _KEYS_PER_CALL, strict=False))
