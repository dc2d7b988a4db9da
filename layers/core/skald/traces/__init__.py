"""Stored spans: writing them, reading them as traces, event chains and Prometheus metrics."""
