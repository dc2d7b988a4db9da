"""The health and the statistics of both connection pools (G-01, G-15, G-17)."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from skald.postgres import database
from skald.telemetry import metrics
from skald.valkey import BestEffort, valkey
from skald.valkey.cache import cache

if TYPE_CHECKING:
    from redis import Redis

KEPT_SECONDS = 60
_published_at = 0.0


def health() -> dict[str, Any]:
    """Return whether PostgreSQL and Redis answer, with the statistics of their pools."""
    answers = BestEffort(valkey(), "health").attempt(lambda client: client.ping(), False)
    return {
        "postgres": {"is_healthy": database().is_healthy(), **asdict(database().statistics())},
        "redis": {"is_healthy": bool(answers), **_redis_statistics(valkey())},
    }


def publish() -> None:
    """Publish the statistics of this process, at most once a minute."""
    global _published_at
    if time.time() - _published_at < KEPT_SECONDS:
        return
    _published_at = time.time()
    figures = {"pg": asdict(database().statistics()), "redis": _redis_statistics(valkey())}
    for pool, statistics in figures.items():
        metrics.count("pool_connections_active", statistics["active"], pool_type=pool)
    for level, rate in cache().statistics().items():
        metrics.count("cache_hit_rate", rate, cache_layer=level)
    BestEffort(valkey(), "pool statistics").attempt(lambda client: _store(client, figures), None)


def _store(client: Redis, figures: dict[str, Any]) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for pool, statistics in figures.items():
            pipeline.set(f"pool_stats:{pool}", json.dumps(statistics), ex=KEPT_SECONDS)
        pipeline.execute()


def _redis_statistics(client: Redis) -> dict[str, int]:
    (idle, _), (active, _) = client.connection_pool.get_connection_count()
    return {"size": client.connection_pool.max_connections, "active": active, "idle": idle}
