"""What `scripts/test` does: read its arguments, run the checks, run pytest."""
