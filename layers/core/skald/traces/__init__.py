"""Stored spans: write them, and read them as traces, event chains and Prometheus metrics."""
