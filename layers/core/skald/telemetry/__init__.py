"""Logs, traces and metrics that share one trace id (G-09)."""

from skald.telemetry.log import logger
from skald.telemetry.metrics import metrics
from skald.telemetry.trace import current_trace_id, new_trace_id, trace

__all__ = ["current_trace_id", "logger", "metrics", "new_trace_id", "trace"]
