"""API keys and tickets: what a caller may do."""
