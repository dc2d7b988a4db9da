"""Benchmarks of Skald against its alternatives; one module per subject."""
