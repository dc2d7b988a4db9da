"""A client of Skald's public API, for the demo and the end-to-end tests."""
