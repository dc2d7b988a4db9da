"""How many calls a provider can take at a time: halved at a 429, regained with each answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from skald.valkey import BestEffort

if TYPE_CHECKING:
    import redis

CALM_MILLISECONDS = 1000
"""Refusals within this time count as one: they answer calls of one moment."""
ASKED_SECONDS = 0.1
_FORGOTTEN_SECONDS = 600

_SLOW = """
if not redis.call('SET', KEYS[1] .. ':calm', 1, 'NX', 'PX', ARGV[2]) then return 0 end
local places = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
redis.call('SET', KEYS[1], math.max(1, math.floor(math.min(places, ARGV[1]) / 2)), 'EX', ARGV[3])
return 1
"""
_GAIN = """
local places = redis.call('GET', KEYS[1])
if not places then return 0 end
places = tonumber(places) + 1 / tonumber(places)
if places >= tonumber(ARGV[1]) then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], tostring(places), 'EX', ARGV[2])
return 1
"""


class Pace:
    """The places of a semaphore that all processes share: gained one by one, lost by halves.

    Without Redis, and ten minutes after the last refusal, all places are free.
    """

    def __init__(self, client: redis.Redis, name: str, places: int) -> None:
        self._redis = BestEffort(client, "pace")
        self._key = f"pace:{name}"
        self._all = self._places = places
        self._asked_until = 0.0

    def places(self) -> int:
        """Return how many may call now, at least one. Redis is asked every `ASKED_SECONDS`."""
        if time.monotonic() >= self._asked_until:
            found = self._redis.attempt(lambda client: client.get(self._key), None)
            self._places = max(1, min(self._all, int(float(found)))) if found else self._all
            self._asked_until = time.monotonic() + ASKED_SECONDS
        return self._places

    def slow(self) -> None:
        """Halve the places, because the provider refused a call."""
        self._redis.attempt(
            lambda client: client.eval(
                _SLOW, 1, self._key, self._all, CALM_MILLISECONDS, _FORGOTTEN_SECONDS
            ),
            None,
        )

    def gain(self) -> None:
        """Regain a part of a place, because the provider answered a call."""
        self._redis.attempt(
            lambda client: client.eval(_GAIN, 1, self._key, self._all, _FORGOTTEN_SECONDS), None
        )
