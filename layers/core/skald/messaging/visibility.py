"""An SQS message in flight: hidden from other workers until its visibility timeout (V-12)."""

from functools import cache

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from skald.aws import client
from skald.telemetry import logger


class InFlightMessage:
    """A message that a worker has received and not yet deleted or returned."""

    def __init__(self, record: SQSRecord) -> None:
        self._queue = record.event_source_arn
        self._receipt = record.receipt_handle
        self.receives = int(record["attributes"].get("ApproximateReceiveCount", 1))
        """How often it was delivered, including this time."""

    def set_visibility(self, seconds: float) -> None:
        """Let SQS deliver the message again after so many seconds, unless it is deleted before.

        If the call to SQS fails, the visibility timeout of the queue stays in force.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client("sqs").change_message_visibility(
                QueueUrl=_url(self._queue),
                ReceiptHandle=self._receipt,
                VisibilityTimeout=int(seconds),
            )
        except (BotoCoreError, ClientError) as error:
            logger.warning("message comes back at its queue's time", extra={"error": str(error)})


@cache
def _url(queue_arn: str) -> str:
    return client("sqs").get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"]
