"""Powertools persistence layers on PostgreSQL (C-08).

Import this on first use, because Powertools' idempotency package imports boto3.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, NoReturn, override
from uuid import UUID, uuid4

from aws_lambda_powertools.utilities.idempotency import BasePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyKeyError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import (
    STATUS_CONSTANTS,
    DataRecord,
)
from psycopg.errors import LockNotAvailable

from skald.idempotency import records
from skald.idempotency.errors import LeaseLost
from skald.idempotency.records import KeyClaim, Name
from skald.postgres import ConditionalTransaction, Database, Transaction

IN_PROGRESS = STATUS_CONSTANTS["INPROGRESS"]
COMPLETED = STATUS_CONSTANTS["COMPLETED"]


class PostgresLayer(BasePersistenceLayer):
    """Idempotency records of one call, with an owner token of its own.

    One instance serves one call: calls share no state. This class computes both hashes, and
    Powertools gets the hash of the key as its data. Otherwise Powertools would copy key and
    payload, search the copy, and hash both again for the answer.
    """

    def __init__(self, payload: Any, lease: timedelta) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.hash_function = hashlib.sha256
        self.payload_validation_enabled = True
        self._payload_hash = super()._generate_hash(payload)
        self._owner = uuid4()
        self._lease = lease

    @abstractmethod
    def _open(self) -> AbstractContextManager[Transaction]: ...

    def hashed(self, key: str) -> str:
        """Return the hash that a key is stored under; raises for an empty key."""
        if not key:
            raise IdempotencyKeyError("an idempotency key must not be empty")
        return super()._generate_hash(key)

    def _generate_hash(self, data: str) -> str:
        return data

    def _get_hashed_payload(self, data: object) -> str:  # noqa: ARG002 it is the key
        return self._payload_hash

    def _get_expiry_timestamp(self) -> int:
        return 0  # never: only the database's clock counts

    def save_inprogress(
        self, data: dict[str, Any], remaining_time_in_millis: int | None = None
    ) -> None:
        # Powertools warns without the remaining time of the Lambda; our leases do not need it.
        super().save_inprogress(data, remaining_time_in_millis or 0)

    def _put_record(self, data_record: DataRecord) -> None:
        try:
            with self._open() as tx:
                if records.claim(tx, self._claim(data_record)):
                    return
                record = self._find(tx, data_record.idempotency_key)
        except LockNotAvailable as timeout:
            busy = DataRecord(data_record.idempotency_key, IN_PROGRESS)
            raise IdempotencyItemAlreadyExistsError(old_data_record=busy) from timeout
        self._answer_from(record, data_record)

    def _answer_from(self, record: DataRecord | None, asked: DataRecord) -> NoReturn:
        if record is not None:
            self._validate_payload(asked, record)
        raise IdempotencyItemAlreadyExistsError(old_data_record=record)

    def _get_record(self, idempotency_key: str) -> DataRecord:
        with self._open() as tx:
            record = self._find(tx, idempotency_key)
        if record is None:  # deleted after the claim found it; Powertools claims again
            raise IdempotencyItemNotFoundError
        return record

    def _update_record(self, data_record: DataRecord) -> None:
        name = _name(data_record.idempotency_key)
        with self._open() as tx:
            if not records.complete(tx, name, self._owner, data_record.response_data, self._keep):
                raise LeaseLost(f"another owner has taken over {name.operation}")

    def _find(self, tx: Transaction, idempotency_key: str) -> DataRecord | None:
        record = records.find(tx, _name(idempotency_key))
        if record is None:
            return None
        # No expiry: the claim has checked it already, by the database's clock.
        return DataRecord(
            idempotency_key,
            IN_PROGRESS if record.result is None else COMPLETED,
            response_data=record.result or "",
            payload_hash=record.payload_hash,
        )

    def _claim(self, data_record: DataRecord) -> KeyClaim:
        name, payload_hash = _name(data_record.idempotency_key), data_record.payload_hash
        return KeyClaim(name, self._owner, payload_hash, self._lease, self._keep)

    @property
    def _keep(self) -> timedelta:
        return timedelta(seconds=self.expires_after_seconds)


class TransactionLayer(PostgresLayer):
    """Records in the caller's open transaction: claim, effect and answer commit or vanish together.

    No other transaction sees the claim before the commit, so a duplicate waits for the outcome. A
    claim needs no lease: a visible claim without an answer belongs to work that failed, and any
    call may take it.
    """

    def __init__(self, transaction: Transaction, payload: Any) -> None:
        super().__init__(payload, lease=timedelta(0))
        self._transaction = transaction

    def _open(self) -> AbstractContextManager[Transaction]:
        return nullcontext(self._transaction)

    def _update_record(self, data_record: DataRecord) -> None:
        """Store the answer with the commit."""
        name, answer = _name(data_record.idempotency_key), data_record.response_data
        records.complete_by_commit(self._transaction, name, self._owner, answer, self._keep)

    def _delete_record(self, data_record: DataRecord) -> None:
        """Do nothing: the rollback frees the key, and the transaction may be broken."""


class RowsFirstLayer(TransactionLayer):
    """The same for work that begins with a statement: the claim is its transaction's condition.

    If the claim fails, that statement and the whole transaction fail, even if the work ignores the
    error. Powertools then asks for the claim again, and this time it runs before the work.
    """

    def __init__(self, transaction: ConditionalTransaction, payload: Any) -> None:
        super().__init__(transaction, payload)
        self._conditional = transaction
        self._has_failed = False

    def guarding[JsonResult](self, work: Callable[[], JsonResult]) -> Callable[[], JsonResult]:
        """Return work whose outcome counts only if the claim holds."""

        def guarded() -> JsonResult:
            try:
                result = work()
            except Exception:
                self._must_hold()
                raise
            self._must_hold()
            return result

        return guarded

    @override
    def _put_record(self, data_record: DataRecord) -> None:
        if not self._has_failed:
            records.claim_ahead(self._conditional, self._claim(data_record))
            return
        record = self._find(self._conditional.ahead(), data_record.idempotency_key)
        if record is not None and record.status == COMPLETED:
            self._answer_from(record, data_record)
        super()._put_record(data_record)

    def _must_hold(self) -> None:
        refusal = self._conditional.refusal()
        if refusal is None:
            return
        if isinstance(refusal, LockNotAvailable):
            raise IdempotencyAlreadyInProgressError from refusal
        if not records.is_anothers(refusal):
            raise refusal
        self._has_failed = True
        self._conditional.undo()
        raise IdempotencyInconsistentStateError from refusal


class LeasedLayer(PostgresLayer):
    """Records in short transactions of their own, around work with effects outside the database.

    An owner holds its key for the lease. After that another call may take over. The first owner
    can then neither store its answer nor free the key: both need the token of the owner.
    """

    def __init__(self, database: Database, tenant_id: UUID, payload: Any, lease: timedelta) -> None:
        super().__init__(payload, lease)
        self._database = database
        self._tenant_id = tenant_id

    def _open(self) -> AbstractContextManager[Transaction]:
        return self._database.transaction(self._tenant_id)

    def _delete_record(self, data_record: DataRecord) -> None:
        with self._open() as tx:
            records.release(tx, _name(data_record.idempotency_key), self._owner)


def _name(idempotency_key: str) -> Name:
    operation, _, key = idempotency_key.rpartition("#")
    return Name(operation, key)
