"""Logs, spans and metrics that share one trace id (G-09)."""

from skald.telemetry.log import logger
from skald.telemetry.metrics import metrics
from skald.telemetry.spans import (
    Kind,
    current_span,
    span,
    workflow_span_id,
)
from skald.telemetry.trace import current_span_id, current_trace_id, new_trace_id, trace

__all__ = [
    "Kind",
    "current_span",
    "current_span_id",
    "current_trace_id",
    "logger",
    "metrics",
    "new_trace_id",
    "span",
    "trace",
    "workflow_span_id",
]
