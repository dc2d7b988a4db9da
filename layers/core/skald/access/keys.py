"""API keys: random, shown once, stored as hashes; each belongs to one tenant (P-07)."""

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from uuid import UUID

from skald.errors import Unauthenticated
from skald.postgres import Database, Transaction

PREFIX = "skald_"
_TRUSTED_SECONDS = 30.0


@dataclass(frozen=True)
class Principal:
    """The caller of a request: its tenant and its key."""

    tenant_id: UUID
    actor_id: str
    key_hash: bytes = field(repr=False)


_known: dict[bytes, tuple[float, Principal]] = {}


def create_api_key(transaction: Transaction, tenant_id: UUID, name: str) -> str:
    """Store a new key for a tenant and return it; it cannot be read again.

    Needs the migrator's role: functions cannot create keys.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    transaction.execute(
        "insert into skald.tenants (tenant_id, name) values (%s, %s) on conflict do nothing",
        (tenant_id, name),
    )
    transaction.execute(
        "insert into skald.api_keys (key_hash, tenant_id, name) values (%s, %s, %s)",
        (_hash(key), tenant_id, name),
    )
    return key


def authenticate(database: Database, key: str | None) -> Principal:
    """Return the caller of a key. A revoked key is refused within 30 seconds.

    Raises `Unauthenticated` for a missing, unknown or revoked key.
    """
    if not key or not key.startswith(PREFIX):
        raise Unauthenticated("send your API key in the X-Api-Key header")
    digest = _hash(key)
    trusted_until, principal = _known.get(digest, (0.0, None))
    if principal is None or trusted_until < time.time():
        principal = _look_up(database, digest)
        _known[digest] = (time.time() + _TRUSTED_SECONDS, principal)
    return principal


def _look_up(database: Database, digest: bytes) -> Principal:
    with database.single_statement(None) as transaction:
        row = transaction.execute("select * from skald.authenticate(%s)", (digest,)).fetchone()
    if row is None:
        raise Unauthenticated("this API key is unknown or revoked")
    return Principal(row["tenant_id"], f"key:{row['name']}", digest)


def _hash(key: str) -> bytes:
    # A plain digest is enough: a key holds 256 random bits and cannot be guessed.
    return hashlib.sha256(key.encode()).digest()
