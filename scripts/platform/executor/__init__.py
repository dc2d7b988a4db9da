"""Runs Lambda functions as plain processes: an executor for LocalStack that needs no Docker."""
