"""Sagas: steps whose effect and log row commit together, and compensations that undo them."""

from skald.saga.log import SagaLog, SagaStatus

__all__ = ["SagaLog", "SagaStatus"]
