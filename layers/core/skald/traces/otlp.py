"""Spans for an OpenTelemetry collector: OTLP over HTTP in its JSON form.

Used when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. PostgreSQL stores the spans in any case.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skald.telemetry import Span

TIMEOUT_SECONDS = 2.0
_INTERNAL, _SERVER, _CLIENT, _PRODUCER, _CONSUMER = 1, 2, 3, 4, 5
_KINDS = {
    "http": _SERVER,
    "outbox": _PRODUCER,
    "queue": _CONSUMER,
    "consumer": _CONSUMER,
    "model": _CLIENT,
}
_STATUS_ERROR = 2


def export(spans: Sequence[Span]) -> None:
    """Send spans to the collector, if one is set. Raises `OSError` when it refuses them."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        return
    from urllib.request import Request, urlopen

    request = Request(  # noqa: S310  # an address of ours, from the settings
        f"{endpoint.rstrip('/')}/v1/traces",
        data=json.dumps(document(spans)).encode(),
        headers={"Content-Type": "application/json"},
    )
    urlopen(request, timeout=TIMEOUT_SECONDS).close()  # noqa: S310


def document(spans: Sequence[Span]) -> dict[str, Any]:
    """Return an `ExportTraceServiceRequest`."""
    scope = {"scope": {"name": "skald"}, "spans": [_span(span) for span in spans]}
    resource = {"attributes": _attributes({"service.name": "skald"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, Any]:
    tenant = {"skald.tenant_id": span.tenant_id, "skald.kind": span.kind}
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_span_id or "",
        "name": span.name,
        "kind": _KINDS.get(span.kind, _INTERNAL),
        "startTimeUnixNano": str(span.start_unix_nano),
        "endTimeUnixNano": str(span.end_unix_nano),
        "attributes": _attributes(span.attributes | tenant),
        "status": {"code": _STATUS_ERROR} if span.status == "error" else {},
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": str(value)}} for key, value in values.items()]
