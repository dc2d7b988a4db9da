"""The SQL of idempotency records. All times are those of PostgreSQL's clock."""

from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from psycopg import Error

from skald.postgres import ConditionalTransaction, Transaction


@dataclass(frozen=True)
class Name:
    """The name of a record in its tenant; `key` is the hash of the client's key."""

    operation: str
    key: str


@dataclass(frozen=True)
class Record:
    """The record of another call. Without a result, that call is still in progress."""

    payload_hash: str
    result: str | None


@dataclass(frozen=True)
class KeyClaim:
    """The claim of a call on a key; `lease` and `keep` count from the claim."""

    name: Name
    owner: UUID
    payload_hash: str
    lease: timedelta
    keep: timedelta


_CLAIM: LiteralString = """
    with claimed as (
        insert into skald.idempotency_cache as cache
            (tenant_id, key, operation, payload_hash, owner, leased_until, expires_at)
        values (%(tenant)s, %(key)s, %(operation)s, %(payload_hash)s, %(owner)s,
                clock_timestamp() + %(lease)s, clock_timestamp() + %(keep)s)
        on conflict (tenant_id, key, operation) do update
        set payload_hash = excluded.payload_hash, owner = excluded.owner, result = null,
            leased_until = clock_timestamp() + %(lease)s, created_at = clock_timestamp(),
            expires_at = clock_timestamp() + %(keep)s
        where cache.expires_at <= clock_timestamp()
           or (cache.result is null and cache.leased_until <= clock_timestamp()
               and cache.payload_hash = excluded.payload_hash)
        returning true
    )
    select case when exists (select from claimed) then true
                when %(must_hold)s then skald.refuse_taken_key()
                else false end
"""


def claim(tx: Transaction, wanted: KeyClaim) -> bool:
    """Take a key that is new, expired, or held by an owner whose lease is over.

    Returns False when another call has it. Waits for an open transaction that claimed the key;
    raises `LockNotAvailable` when that takes longer than the lock timeout.
    """
    return bool(tx.value(_CLAIM, _parameters(tx, wanted, must_hold=False)))


def claim_ahead(tx: ConditionalTransaction, wanted: KeyClaim) -> None:
    """Make the claim the condition of a transaction; it is sent with the first statement.

    If another call has the key, the transaction's refusal says so (`is_anothers`), or is
    `LockNotAvailable` after the lock timeout.
    """
    tx.begin_under(_CLAIM, _parameters(tx, wanted, must_hold=True))


def is_anothers(refusal: Error) -> bool:
    """Say whether a refusal means that another call has the key."""
    return refusal.sqlstate == "SK001"


def _parameters(tx: Transaction, claim: KeyClaim, *, must_hold: bool) -> dict[str, object]:
    return {
        "must_hold": must_hold,
        "tenant": tx.tenant_id,
        "key": claim.name.key,
        "operation": claim.name.operation,
        "payload_hash": claim.payload_hash,
        "owner": claim.owner,
        "lease": claim.lease,
        "keep": claim.keep,
    }


def find(tx: Transaction, name: Name) -> Record | None:
    return tx.one(
        Record,
        "select payload_hash, result::text from skald.idempotency_cache"
        " where tenant_id = %s and key = %s and operation = %s",
        (tx.tenant_id, name.key, name.operation),
    )


_COMPLETE: LiteralString = """
    update skald.idempotency_cache
    set result = %(result)s::json, expires_at = clock_timestamp() + %(keep)s
    where tenant_id = %(tenant)s and key = %(key)s and operation = %(operation)s
      and owner = %(owner)s and result is null
"""


def complete(tx: Transaction, name: Name, owner: UUID, result: str, keep: timedelta) -> bool:
    """Store the answer, a JSON text; returns False if the owner has lost the claim."""
    return tx.changed(_COMPLETE, _completion(tx, name, owner, result, keep))


def complete_by_commit(
    tx: Transaction, name: Name, owner: UUID, result: str, keep: timedelta
) -> None:
    """Store the answer with the commit, for a claim that this transaction made."""
    tx.later(_COMPLETE, _completion(tx, name, owner, result, keep))


def _completion(
    tx: Transaction, name: Name, owner: UUID, result: str, keep: timedelta
) -> dict[str, object]:
    return {
        "tenant": tx.tenant_id,
        "key": name.key,
        "operation": name.operation,
        "owner": owner,
        "result": result,
        "keep": keep,
    }


def release(tx: Transaction, name: Name, owner: UUID) -> bool:
    """Give a claim up; returns False if the owner has lost it."""
    return tx.changed(
        "delete from skald.idempotency_cache"
        " where tenant_id = %s and key = %s and operation = %s"
        "   and owner = %s and result is null",
        (tx.tenant_id, name.key, name.operation, owner),
    )


def invalidate(tx: Transaction, key: str) -> int:
    """Delete the answers under a key, in every operation; returns how many.

    The claim of a call in progress stays.
    """
    return tx.execute(
        "delete from skald.idempotency_cache"
        " where tenant_id = %s and key = %s"
        "   and (result is not null or leased_until <= clock_timestamp())",
        (tx.tenant_id, key),
    ).rowcount


def delete_expired(tx: Transaction, over_for: timedelta, bite: int = 1_000) -> int:
    """Delete records of all tenants that expired so long ago, the oldest first, at most `bite`.

    Skips a record that another transaction claims at the same time, and does not wait for it. Needs
    the relay's role.
    """
    return tx.execute(
        """
        with expired as (
            select tenant_id, key, operation from skald.idempotency_cache
            where expires_at <= now() - %s
            order by expires_at
            limit %s
            for update skip locked
        )
        delete from skald.idempotency_cache as cache using expired
        where (cache.tenant_id, cache.key, cache.operation)
            = (expired.tenant_id, expired.key, expired.operation)
        """,
        (over_for, bite),
    ).rowcount
