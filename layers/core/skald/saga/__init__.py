"""Sagas: steps whose effect and record commit together, and their compensation."""

from skald.saga.log import SagaLog

__all__ = ["SagaLog"]
