"""Finished spans in PostgreSQL: one statement per invocation and tenant, no commit per span."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from skald.telemetry import logger
from skald.traces import otlp

if TYPE_CHECKING:
    from skald.postgres import Database
    from skald.telemetry import Span

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram, in seconds. A span over 0.5 is slow."""

# This commit does not wait for the disk. A crash may lose spans; a request must not lose time.
# Totals count inserted rows, so a span that is stored twice is counted once. All invocations lock
# rows in one order, so two that end at once do not deadlock.
_SETTINGS = """
    select set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '1s', true),
           set_config('statement_timeout', '2s', true)
"""
_INSERT = """
    with stored as (
        insert into skald.trace_spans
            (tenant_id, trace_id, span_id, parent_span_id, kind, name, start_time, end_time,
             status, attributes)
        select %(tenant)s, trace_id, span_id, parent_span_id, kind, name,
               to_timestamp(start_unix_nano / 1e9), to_timestamp(end_unix_nano / 1e9),
               status, attributes
        from jsonb_to_recordset(%(spans)s) as span(
            trace_id text, span_id text, parent_span_id text, kind text, name text,
            start_unix_nano numeric, end_unix_nano numeric, status text, attributes jsonb)
        on conflict do nothing
        returning kind, name, status, duration_ms / 1000 as seconds
    )
    insert into skald.span_totals (tenant_id, kind, name, status, bucket, spans, seconds)
    select %(tenant)s, kind, name, status,
           (select coalesce(min(bound), 'infinity')
            from unnest(%(buckets)s::float8[]) as bound where seconds <= bound),
           count(*), sum(seconds)
    from stored
    group by 1, 2, 3, 4, 5
    order by 1, 2, 3, 4, 5
    on conflict (tenant_id, kind, name, status, bucket)
    do update set spans = span_totals.spans + excluded.spans,
                  seconds = span_totals.seconds + excluded.seconds
"""


def save(spans: Sequence[Span]) -> None:
    """Store spans of tenants. A failure is logged and loses only the spans.

    This transaction follows that of the work, so rolled-back work has its spans, too. A killed
    invocation stores none; the next attempt does.
    """
    owned = [span for span in spans if span.tenant_id is not None]
    if not owned:
        return
    from skald.postgres import database

    try:
        insert(database(), owned)
        otlp.export(owned)
    except Exception as error:
        logger.warning("spans are lost", extra={"spans": len(owned), "error": str(error)})


def insert(database: Database, spans: Sequence[Span]) -> None:
    """Insert spans with one statement a tenant. A stored span stays as it is."""
    by_tenant = sorted(spans, key=lambda span: str(span.tenant_id))
    for tenant_id, group in groupby(by_tenant, key=lambda span: span.tenant_id):
        document = json.dumps([_row(span) for span in group], default=str)
        with database.transaction(tenant_id) as transaction:
            transaction.later(_SETTINGS)
            transaction.later(
                _INSERT,
                {
                    "tenant": tenant_id,
                    "spans": document,
                    "buckets": list(BUCKETS),
                },
            )


def _row(span: Span) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "kind": span.kind,
        "name": span.name,
        "start_unix_nano": span.start_unix_nano,
        "end_unix_nano": span.end_unix_nano,
        "status": span.status,
        "attributes": span.attributes,
    }
