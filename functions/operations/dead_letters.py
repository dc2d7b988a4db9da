"""Collects what the queues gave up into the table of dead letters, each for its own tenant."""

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
"""Whose a message is that names no tenant: it is kept for the operator alone."""


@undelivered
def collect(message: Undelivered) -> None:
    """Keep a message with its event, cause, count and time; one that comes twice is kept once."""
    envelope, document = _event(message.body), _document(message.body)
    with database().transaction(envelope.tenant_id if envelope else _tenant(document)) as tx:
        known = dead_letters.cause(tx, envelope) if envelope else _answer(document)
        error = known or f"received {message.receive_count} times, and never dealt with"
        is_new = dead_letters.keep(tx, _without_token(message, document), envelope, error)
    if is_new:
        logger.error("message became a dead letter", extra={"source": message.source})
        metrics.count("dead_letters_count", source=message.source)


def _event(body: str) -> Envelope | None:
    """Return the event a message is, None if it is none or none that PostgreSQL could store."""
    try:
        return None if r"\u0000" in body else Envelope.model_validate_json(body)
    except ValidationError:
        return None


def _document(body: str) -> dict[str, Any]:
    """Return a message's JSON object; an empty one where it holds none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _without_token(message: Undelivered, document: dict[str, Any]) -> Undelivered:
    """Leave out the token of a waiting task: whoever has it can answer in the task's place."""
    if "task_token" not in document:
        return message
    return message.model_copy(update={"body": json.dumps(document | {"task_token": "…"})})


def _tenant(document: dict[str, Any]) -> UUID:
    """Return the tenant that a message names, itself or as the owner of S3's object."""
    try:
        return UUID(document["tenant_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return _owner(document)


def _owner(document: dict[str, Any]) -> UUID:
    """Return whose object a notification of S3, lost by its function, is about."""
    try:
        record = document["requestPayload"]["Records"][0]
        key = unquote_plus(record["s3"]["object"]["key"])
    except (KeyError, IndexError, TypeError, AttributeError):
        return NOBODY
    return tenant_of(key) or NOBODY


def _answer(document: dict[str, Any]) -> str | None:
    """Return what a function answered whose invocation Lambda gave up."""
    answer = document.get("responsePayload")
    if not isinstance(answer, dict):
        return None
    return f"{answer.get('errorType')}: {answer.get('errorMessage')}"[:2000]
