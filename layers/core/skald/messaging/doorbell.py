"""Wakes the relay after a commit. After a lost ring the schedule of the relay finds the event."""

from skald.aws import client
from skald.config import settings
from skald.telemetry import logger


def ring() -> None:
    """Send one short message to the doorbell queue. A failure is logged and costs only time."""
    queue = settings().doorbell_queue
    if queue is None:
        return
    try:
        client("sqs").send_message(QueueUrl=queue, MessageBody="{}")
    except Exception:
        logger.warning("doorbell did not ring; the relay's schedule will find the event")
