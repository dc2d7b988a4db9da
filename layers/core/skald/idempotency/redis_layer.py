"""Powertools' own persistence layer on Redis, for work that is expensive but safe to repeat."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID
from warnings import catch_warnings

from aws_lambda_powertools.utilities.idempotency import (
    BasePersistenceLayer,
    IdempotencyConfig,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyItemNotFoundError
from aws_lambda_powertools.utilities.idempotency.persistence.cache import CachePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

from skald.config import settings
from skald.valkey import BestEffort

if TYPE_CHECKING:
    import redis


class RedisLayer(BasePersistenceLayer):
    """Records in Redis. While Redis is down, no record is stored and all work runs (C-08)."""

    def __init__(self, client: redis.Redis, tenant_id: UUID, lease: timedelta) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._redis = _best_effort(client)
        self._records = _powertools_layer(client)
        self._tenant_id = tenant_id
        self._lease = lease

    def configure(
        self,
        config: IdempotencyConfig,
        function_name: str | None = None,
        key_prefix: str | None = None,
    ) -> None:
        prefix = f"skald:{settings().stage}:{self._tenant_id}:idempotency:{key_prefix}"
        super().configure(config, function_name, prefix)

    def save_inprogress(
        self, data: dict[str, Any], remaining_time_in_millis: int | None = None
    ) -> None:
        lease = self._lease // timedelta(milliseconds=1)
        super().save_inprogress(data, remaining_time_in_millis or lease)

    def _put_record(self, data_record: DataRecord) -> None:
        self._redis.attempt(lambda _: self._records._put_record(data_record), None)

    def _get_record(self, idempotency_key: str) -> DataRecord:
        record = self._redis.attempt(lambda _: self._records._get_record(idempotency_key), None)
        if record is None:  # Redis was lost after the claim found the key; Powertools claims again
            raise IdempotencyItemNotFoundError
        return record

    def _update_record(self, data_record: DataRecord) -> None:
        self._redis.attempt(lambda _: self._records._update_record(data_record), None)

    def _delete_record(self, data_record: DataRecord) -> None:
        self._redis.attempt(lambda _: self._records._delete_record(data_record), None)


@cache
def _best_effort(client: redis.Redis) -> BestEffort:
    """Return the object that keeps between calls whether Redis is reachable."""
    return BestEffort(client, "idempotency")


@cache
def _powertools_layer(client: redis.Redis) -> CachePersistenceLayer:
    with catch_warnings(action="ignore", category=DeprecationWarning):
        # Powertools warns of the old name of this class although we use the new one.
        return CachePersistenceLayer(client=client)  # type: ignore[arg-type]  # a strict Protocol
