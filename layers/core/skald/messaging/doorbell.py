"""Wakes the relay after a commit. If a ring is lost, the relay's schedule finds the event."""

from skald.aws import client
from skald.config import settings
from skald.telemetry import logger


def ring() -> None:
    """Send one short message to the doorbell queue. A failure is logged; it only delays events."""
    queue = settings().doorbell_queue
    if queue is None:
        return
    try:
        client("sqs").send_message(QueueUrl=queue, MessageBody="{}")
    except Exception:
        logger.warning("doorbell did not ring; the relay's schedule will find the event")
