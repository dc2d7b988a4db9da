"""Operations: work that is done once per key; a repetition gets the stored answer (W-01)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from skald.config import settings
from skald.idempotency.errors import InUse, KeyReused
from skald.postgres import ConditionalTransaction, Database, Transaction
from skald.telemetry import metrics

if TYPE_CHECKING:  # imported on first use, because Powertools' idempotency package imports boto3
    import redis
    from aws_lambda_powertools.utilities.idempotency import (
        BasePersistenceLayer,
        IdempotencyConfig,
    )

RETRY_AFTER_SECONDS = 1

type JsonResult = dict[str, Any]
"""A JSON object. A replay returns it as JSON would, for example with lists for tuples."""


@dataclass(frozen=True)
class Outcome:
    """The result of the work, and whether it comes from an earlier call."""

    result: JsonResult
    replayed: bool


class Operation:
    """Work that has effects. The name separates its keys from those of other operations.

    Each method raises `InUse` (with `Retry-After`) while another call works under the key, and
    counts hits, misses and conflicts (W-08). All but `run_cached` raise `KeyReused` when the key
    was sent with another payload before. If the work raises, the key is free again.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def run(
        self, transaction: Transaction, work: Callable[[], JsonResult], *, key: str, payload: Any
    ) -> Outcome:
        """Do work on rows; its effect, outbox rows and answer commit with the transaction.

        A duplicate waits for the commit, up to the lock timeout, then replays the answer. The
        caller must let errors roll the transaction back.
        """
        from skald.idempotency.layer import TransactionLayer

        layer = TransactionLayer(transaction, payload)
        return self._handle(layer, work, layer.hashed(key))

    def run_rows_first(
        self,
        transaction: ConditionalTransaction,
        work: Callable[[], JsonResult],
        *,
        key: str,
        payload: Any,
    ) -> Outcome:
        """Do the same for work that begins with a statement; the claim costs no round trip.

        The claim is sent together with that statement, which does not run for a duplicate. Before
        that statement the work must have no lasting effect, such as a call or a write elsewhere: a
        duplicate does it again. In a transaction that has begun already, this is `run`.
        """
        from skald.idempotency.layer import RowsFirstLayer

        if not transaction.is_untouched:
            return self.run(transaction, work, key=key, payload=payload)
        layer = RowsFirstLayer(transaction, payload)
        return self._handle(layer, layer.guarding(work), layer.hashed(key))

    def run_outside(
        self,
        database: Database,
        tenant_id: UUID,
        work: Callable[[], JsonResult],
        *,
        key: str,
        payload: Any,
        lease: timedelta,
    ) -> Outcome:
        """Do work outside the database, such as on S3 or by a model, without a transaction.

        The caller owns the key for `lease`, which should be longer than the work takes. A duplicate
        in that time raises `InUse`. After a crash, or when the lease is over, another call repeats
        the work, so what it writes must have derived names. The first call then raises `LeaseLost`;
        a retry returns the answer of the other call. No product uses this yet (W-01).
        """
        from skald.idempotency.layer import LeasedLayer

        layer = LeasedLayer(database, tenant_id, payload, lease)
        return self._handle(layer, work, layer.hashed(key))

    def run_cached(
        self,
        client: redis.Redis,
        tenant_id: UUID,
        work: Callable[[], JsonResult],
        *,
        key: Any,
        lease: timedelta,
    ) -> Outcome:
        """Do work that is safe to repeat but costs time or money, such as drawing a chart.

        Powertools' own layer keeps the answer in Redis. Without Redis every call does the work, and
        after the lease two calls may work at once: a second effect must do no harm. `key` is JSON
        and holds everything that the answer depends on. No product uses this yet (C-08).
        """
        from skald.idempotency.redis_layer import RedisLayer

        # No payload to compare: Powertools drops its hash when it stores an answer in Redis.
        return self._handle(RedisLayer(client, tenant_id, lease), work, key)

    def _handle(
        self, layer: BasePersistenceLayer, work: Callable[[], JsonResult], key: Any
    ) -> Outcome:
        # `idempotent_function` calls this handler; a decorator for one call would take longer.
        from aws_lambda_powertools.utilities.idempotency.base import IdempotencyHandler
        from aws_lambda_powertools.utilities.idempotency.serialization.custom_dict import (
            CustomDictSerializer,
        )

        handler = IdempotencyHandler(
            function=lambda: Outcome(work(), replayed=False),
            function_payload=key,
            function_args=(),
            function_kwargs={},
            persistence_store=layer,
            config=_config(),
            # The result has an envelope, because Powertools returns an empty result as None.
            output_serializer=CustomDictSerializer(
                to_dict=lambda answer: {"result": answer.result},
                from_dict=lambda stored: Outcome(stored["result"], replayed=True),
            ),
            key_prefix=self.name,
        )
        with _refusals(self.name):
            answer: Outcome = handler.handle()
        _count(self.name, "hit" if answer.replayed else "miss")
        return answer


def invalidate(transaction: Transaction, key: str) -> int:
    """Delete the tenant's answers under a key (W-02); returns how many."""
    from skald.idempotency import records
    from skald.idempotency.layer import TransactionLayer

    return records.invalidate(transaction, TransactionLayer(transaction, None).hashed(key))


def _config() -> IdempotencyConfig:
    from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig

    return IdempotencyConfig(
        raise_on_no_idempotency_key=True,
        expires_after_seconds=int(settings().idempotency_ttl.total_seconds()),
        hash_function="sha256",
    )


@contextmanager
def _refusals(operation: str) -> Iterator[None]:
    """Turn errors of Powertools into ours; raise errors of PostgreSQL as they were."""
    from aws_lambda_powertools.utilities.idempotency import exceptions

    try:
        yield
    except exceptions.IdempotencyValidationError:
        _count(operation, "conflict")
        raise KeyReused("this idempotency key came with another request before") from None
    except (
        exceptions.IdempotencyAlreadyInProgressError,
        exceptions.IdempotencyInconsistentStateError,  # other calls took the key at each attempt
    ):
        _count(operation, "conflict")
        wait = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        raise InUse("ask again for the answer of the first request", headers=wait) from None
    except exceptions.IdempotencyPersistenceLayerError as error:
        raise (error.__cause__ or error) from None


def _count(operation: str, outcome: str) -> None:
    metrics.count("idempotency_requests_count", operation=operation, outcome=outcome)
