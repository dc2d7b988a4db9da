"""The metrics of a tenant in the text format of Prometheus (G-17, P-09).

A function does not live long enough to count by itself. Counters are rows that add up spans, gauges
are read from the tables and from Redis. Row-level security limits every figure to the tenant.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from math import inf
from typing import Any, LiteralString

from skald.postgres import Transaction
from skald.traces.store import BUCKETS
from skald.valkey import BestEffort, valkey

type Labels = Mapping[str, str]

_GAUGES: Mapping[str, LiteralString] = {
    "outbox_events": "select status, count(*)::float8 as value from skald.outbox"
    " where tenant_id = %(tenant)s group by status",
    "outbox_oldest_pending_seconds": """
        select coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as value
        from skald.outbox where tenant_id = %(tenant)s and status = 'pending'
    """,
    "dead_letters": "select source, count(*)::float8 as value from skald.dead_letters"
    " where tenant_id = %(tenant)s and replayed_at is null group by source",
    "sagas": "select kind as saga_type, status, count(*)::float8 as value"
    " from skald.saga_transactions where tenant_id = %(tenant)s group by kind, status",
}

_HISTOGRAMS: Mapping[str, LiteralString] = {
    "trace_span_duration": """
        select kind as span_kind, status, bucket, sum(spans)::float8 as count,
               sum(seconds) as seconds
        from skald.span_totals where tenant_id = %(tenant)s
        group by kind, status, bucket order by kind, status, bucket
    """,
    "persistence_api_duration_seconds": """
        select split_part(name, ' ', 1) as method, split_part(name, ' ', 2) as endpoint, bucket,
               sum(spans)::float8 as count, sum(seconds) as seconds
        from skald.span_totals where tenant_id = %(tenant)s and kind = 'http'
        group by name, bucket order by name, bucket
    """,
    "persistence_storage_duration_seconds": """
        select split_part(name, ' ', 1) as backend, split_part(name, ' ', 2) as operation, bucket,
               sum(spans)::float8 as count, sum(seconds) as seconds
        from skald.span_totals where tenant_id = %(tenant)s and kind = 'storage'
        group by name, bucket order by name, bucket
    """,
    "saga_transaction_duration": """
        select kind as saga_type, status, bound as bucket, count(*)::float8 as count,
               sum(seconds) as seconds
        from skald.saga_transactions,
             lateral (select extract(epoch from completed_at - started_at)::float8 as seconds),
             lateral (select coalesce(min(bound), 'infinity') as bound
                      from unnest(%(buckets)s::float8[]) as bound where seconds <= bound) as bucket
        where tenant_id = %(tenant)s and completed_at is not null
        group by kind, status, bound order by kind, status, bound
    """,
}

_COUNTERS: Mapping[str, LiteralString] = {
    "persistence_api_requests_total": """
        select split_part(name, ' ', 1) as method, split_part(name, ' ', 2) as endpoint, status,
               sum(spans)::float8 as value
        from skald.span_totals where tenant_id = %(tenant)s and kind = 'http' group by name, status
    """,
    "persistence_storage_operations_total": """
        select split_part(name, ' ', 1) as backend, split_part(name, ' ', 2) as operation,
               sum(spans)::float8 as value
        from skald.span_totals where tenant_id = %(tenant)s and kind = 'storage' group by name
    """,
    "persistence_storage_errors_total": """
        select split_part(name, ' ', 1) as backend, split_part(name, ' ', 2) as operation,
               sum(spans)::float8 as value
        from skald.span_totals
        where tenant_id = %(tenant)s and kind = 'storage' and status = 'error' group by name
    """,
}


def exposition(transaction: Transaction) -> str:
    """Return all families. Without Redis its own families are missing."""
    return "".join(f"{line}\n" for line in _lines(transaction))


def _lines(transaction: Transaction) -> Iterator[str]:
    parameters = {"tenant": transaction.tenant_id, "buckets": list(BUCKETS)}
    for kind, families in (("gauge", _GAUGES), ("counter", _COUNTERS)):
        for name, query in families.items():
            yield f"# TYPE {name} {kind}"
            for row in transaction.execute(query, parameters):
                yield _sample(name, row, row.pop("value"))
    for name, query in _HISTOGRAMS.items():
        yield f"# TYPE {name} histogram"
        yield from _histogram(name, transaction.execute(query, parameters))
    yield "# TYPE pool_connections_active gauge"
    for pool, statistics in _pools():
        yield _sample("pool_connections_active", {"pool_type": pool}, statistics["active"])


def _histogram(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Add up the buckets of each series: in Prometheus a bucket includes those below it."""

    def labels(row: dict[str, Any]) -> dict[str, str]:
        return {key: row[key] for key in row if key not in ("bucket", "count", "seconds")}

    for series, group in groupby(rows, key=labels):
        buckets = list(group)
        for bound in (*BUCKETS, inf):
            count = sum(row["count"] for row in buckets if row["bucket"] <= bound)
            le = "+Inf" if bound == inf else str(bound)
            yield _sample(f"{name}_bucket", series | {"le": le}, count)
        yield _sample(f"{name}_sum", series, sum(row["seconds"] for row in buckets))
        yield _sample(f"{name}_count", series, sum(row["count"] for row in buckets))


def _sample(name: str, labels: Labels, value: float) -> str:
    text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
    return f"{name}{{{text}}} {value}" if text else f"{name} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _pools() -> list[tuple[str, dict[str, Any]]]:
    """Return the last figures of each pool."""
    pools = ("pg", "redis")
    texts: list[Any] = BestEffort(valkey(), "pool statistics").attempt(
        lambda client: client.mget(f"pool_stats:{pool}" for pool in pools), []
    )
    return [(pool, json.loads(text)) for pool, text in zip(pools, texts, strict=False) if text]
