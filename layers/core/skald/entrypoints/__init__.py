"""Adapters from a Lambda event to a typed function: parsing, tenancy, tracing and errors."""
