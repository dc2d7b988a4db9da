"""Sagas: steps whose effect and record commit together, and their compensation."""

from skald.saga.log import SagaLog, SagaStatus

__all__ = ["SagaLog", "SagaStatus"]
