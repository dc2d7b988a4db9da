"""A Lambda executor for LocalStack: it runs functions as plain processes, without Docker."""
