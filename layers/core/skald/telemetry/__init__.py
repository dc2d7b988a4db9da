"""Logs, spans and metrics that share one trace id (G-09).

Everything else in Skald imports these names; the modules behind them are this package's own.
"""

from skald.telemetry.log import logger
from skald.telemetry.metrics import metrics
from skald.telemetry.spans import (
    SLOW_SECONDS,
    Kind,
    Span,
    collecting,
    current_span,
    derived_span_id,
    finish,
    span,
    workflow_span_id,
)
from skald.telemetry.trace import (
    TraceContext,
    context_of_headers,
    current_span_id,
    current_trace_id,
    new_context,
    new_trace_id,
    trace,
)

__all__ = [
    "SLOW_SECONDS",
    "Kind",
    "Span",
    "TraceContext",
    "collecting",
    "context_of_headers",
    "current_span",
    "current_span_id",
    "current_trace_id",
    "derived_span_id",
    "finish",
    "logger",
    "metrics",
    "new_context",
    "new_trace_id",
    "span",
    "trace",
    "workflow_span_id",
]
