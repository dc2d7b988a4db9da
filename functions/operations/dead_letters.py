"""Collects undelivered messages of the queues into the table of dead letters (V-12, Q-05)."""

import json
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID

from pydantic import ValidationError

from skald.entrypoints.consumer import undelivered
from skald.messaging import Envelope, dead_letters
from skald.messaging.dead_letters import Undelivered
from skald.postgres import database
from skald.storage.names import tenant_of
from skald.telemetry import logger, metrics

NOBODY = UUID(int=0)
"""The tenant of a message without a tenant; only the operator sees such a message."""


@undelivered
def collect(message: Undelivered) -> None:
    """Store a message with its event, cause, count and time. A repeated message is stored once."""
    envelope, document = _event(message.body), _document(message.body)
    with database().transaction(envelope.tenant_id if envelope else _tenant(document)) as tx:
        known = dead_letters.cause(tx, envelope) if envelope else _answer(document)
        error = known or f"received {message.receive_count} times, and never dealt with"
        is_new = dead_letters.keep(tx, _without_token(message, document), envelope, error)
    if is_new:
        logger.error("message became a dead letter", extra={"source": message.source})
        metrics.count("dead_letters_count", source=message.source)


def _event(body: str) -> Envelope | None:
    """Return the event in a message, None if it holds none that PostgreSQL can store."""
    try:
        return None if r"\u0000" in body else Envelope.model_validate_json(body)
    except ValidationError:
        return None


def _document(body: str) -> dict[str, Any]:
    """Return the JSON object in a message, or an empty one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _without_token(message: Undelivered, document: dict[str, Any]) -> Undelivered:
    """Remove the token of a waiting task, because a reader of it could answer the task."""
    if "task_token" not in document:
        return message
    return message.model_copy(update={"body": json.dumps(document | {"task_token": "…"})})


def _tenant(document: dict[str, Any]) -> UUID:
    """Return the tenant of a message: the tenant in it, or the tenant of its S3 object."""
    try:
        return UUID(document["tenant_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return _owner(document)


def _owner(document: dict[str, Any]) -> UUID:
    """Return the tenant of the object in a lost S3 notification."""
    try:
        record = document["requestPayload"]["Records"][0]
        key = unquote_plus(record["s3"]["object"]["key"])
    except (KeyError, IndexError, TypeError, AttributeError):
        return NOBODY
    return tenant_of(key) or NOBODY


def _answer(document: dict[str, Any]) -> str | None:
    """Return the last error of a function after Lambda has given its event up."""
    answer = document.get("responsePayload")
    if not isinstance(answer, dict):
        return None
    return f"{answer.get('errorType')}: {answer.get('errorMessage')}"[:2000]
