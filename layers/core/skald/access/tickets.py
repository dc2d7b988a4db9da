"""Tickets: random, short-lived, stored as hashes; each opens streams of one tenant (V-11).

The EventSource of a browser cannot send an API key. A client gets a ticket with its key and puts
the ticket into the address, where a key must not be: a key opens everything and does not expire.
A revoked key revokes its tickets.
"""

import hashlib
import secrets
from base64 import b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel, Field

from skald.access.keys import Principal
from skald.errors import Unauthenticated
from skald.postgres import Database, Transaction

VALID = timedelta(minutes=15)
_TENANT_BYTES = 16
_SECRET_BYTES = 32


class Ticket(BaseModel, defer_build=True):
    """A ticket that opens the streams of one batch."""

    ticket: str = Field(description="The value of the query parameter `ticket`.")
    expires_at: datetime = Field(description="When it stops to work.")


def issue(transaction: Transaction, principal: Principal, path: str) -> Ticket:
    """Create a ticket for the streams below a path. Only its hash is stored."""
    secret = secrets.token_bytes(_SECRET_BYTES)
    expires_at: datetime = transaction.value(
        """
        insert into skald.tickets (tenant_id, ticket_hash, path, actor_id, key_hash, expires_at)
        values (%s, %s, %s, %s, %s, now() + %s)
        returning expires_at
        """,
        (
            principal.tenant_id,
            _hash(secret),
            path,
            principal.actor_id,
            principal.key_hash,
            VALID,
        ),
    )
    ticket = urlsafe_b64encode(principal.tenant_id.bytes + secret).decode()
    return Ticket(ticket=ticket, expires_at=expires_at)


def redeem(database: Database, ticket: str, path: str) -> Principal:
    """Return the caller who got this ticket.

    Raises `Unauthenticated` with the same text when the ticket is unknown, expired or for another
    path, and when its key was revoked.
    """
    tenant_id, secret = _read(ticket)
    with database.transaction(tenant_id) as transaction:
        row = transaction.execute(
            """
            select actor_id, key_hash from skald.tickets
            where tenant_id = %s and ticket_hash = %s and expires_at > now()
              and starts_with(%s, path || '/') and exists (select from skald.authenticate(key_hash))
            """,
            (tenant_id, _hash(secret), path),
        ).fetchone()
    if row is None:
        raise _Unknown
    return Principal(tenant_id, row["actor_id"], row["key_hash"])


class _Unknown(Unauthenticated):
    def __init__(self) -> None:
        super().__init__("this ticket is unknown, has expired or is for something else")


def _read(ticket: str) -> tuple[UUID, bytes]:
    """Split a ticket. Its tenant is trusted only together with its secret."""
    try:
        content = b64decode(ticket, altchars="-_", validate=True)
    except ValueError:
        raise _Unknown from None
    if len(content) != _TENANT_BYTES + _SECRET_BYTES:
        raise _Unknown
    return UUID(bytes=content[:_TENANT_BYTES]), content[_TENANT_BYTES:]


def _hash(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
