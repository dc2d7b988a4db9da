"""A client of Skald's public API, as its demo and its end-to-end tests use it."""
