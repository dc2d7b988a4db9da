"""SQS and S3 consumers: one envelope or object at a time; each fails by itself."""

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote_plus

from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel

from skald.entrypoints.entry import entry, recording
from skald.entrypoints.transit import arrived
from skald.messaging.dead_letters import Undelivered
from skald.messaging.envelope import Envelope
from skald.telemetry import Kind, logger, new_context, trace


class ConsumerHandler(Protocol):
    """A Lambda handler for an event source."""

    def __call__(self, event: dict[str, Any], context: LambdaContext, /) -> Any: ...


def consumer(function: Callable[[Envelope], None]) -> ConsumerHandler:
    """Consume envelopes from SQS.

    If the function raises, SQS delivers that message again, and no other message of the batch.
    After the queue's receive count the message goes to the dead-letter queue. The function
    deduplicates with `inbox.accept`.
    """

    def consume(record: SQSRecord) -> None:
        envelope = Envelope.model_validate_json(record.body)
        keys = {"event_type": envelope.event_type, "event_id": str(envelope.event_id)}
        parent = arrived(envelope, record.message_id, record.raw_event.get("attributes", {}))
        with (
            entry(Kind.CONSUMER, function.__name__, parent, tenant_id=envelope.tenant_id, **keys),
            logger.append_context_keys(tenant_id=str(envelope.tenant_id), **keys),
        ):
            logged(lambda: function(envelope))

    return each_record(consume)


def undelivered(function: Callable[[Undelivered], None]) -> ConsumerHandler:
    """Consume dead-letter queues. The messages are not parsed: some of them cannot be read.

    The function runs again when a message comes twice.
    """

    def consume(record: SQSRecord) -> None:
        attributes = record.raw_event.get("attributes", {})
        queue = attributes.get("DeadLetterQueueSourceArn", record.raw_event["eventSourceARN"])
        message = Undelivered(
            source=queue.rpartition(":")[2],
            message_id=record.message_id,
            receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
            body=record.body,
        )
        with entry(Kind.CONSUMER, function.__name__, new_context()):
            logged(lambda: function(message))

    return each_record(consume)


def each_record(consume: Callable[[SQSRecord], None]) -> ConsumerHandler:
    """Make a handler that takes records of SQS one by one and returns those that failed to SQS."""
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    def handler(event: dict[str, Any], context: LambdaContext, /) -> Any:
        with recording():
            return process_partial_response(
                event=event, record_handler=consume, processor=processor, context=context
            )

    return handler


class StoredObject(BaseModel):
    """An object that has just arrived in a bucket; `size` in bytes."""

    bucket: str
    key: str
    size: int


def object_created(function: Callable[[StoredObject], None]) -> ConsumerHandler:
    """Consume S3 `ObjectCreated` notifications; S3 may send one twice and in any order."""

    def handler(event: dict[str, Any], _: LambdaContext, /) -> None:
        for record in event.get("Records", []):
            s3 = record["s3"]
            stored = StoredObject(
                bucket=s3["bucket"]["name"],
                key=unquote_plus(s3["object"]["key"]),
                size=s3["object"].get("size", 0),
            )
            with trace(None):
                logged(lambda stored=stored: function(stored))  # type: ignore[misc]

    return handler


def logged(work: Callable[[], None]) -> None:
    """Log the error that returns a message to its queue."""
    try:
        work()
    except Exception:
        logger.exception("message failed and is given back")
        raise
