"""Sends envelopes to SQS in batches, with an outcome for every entry (C-09)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched, groupby
from typing import TYPE_CHECKING, Protocol

from skald.messaging.envelope import Envelope

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

ENTRIES_PER_CALL = 10
BYTES_PER_CALL = 256 * 1024


@dataclass(frozen=True)
class Failure:
    """Why an event was not sent, and whether a retry can help."""

    error: str
    temporary: bool


class Sender(Protocol):
    """The destination of a relay. An event that is not among the returned failures was sent."""

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]: ...


class SqsSender:
    """Routes events to queues by type; `*` is the queue of all other types."""

    def __init__(self, client: SQSClient, routes: Mapping[str, str]) -> None:
        self._client = client
        self._routes = routes

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:
        """Send each event to its queue, and return the failures by event id."""
        failures: dict[str, Failure] = {}
        for queue, group in groupby(sorted(events, key=self._queue), key=self._queue):
            for entries in _calls(group):
                failures.update(self._send(queue, entries))
        return failures

    def _queue(self, event: Envelope) -> str:
        return self._routes.get(event.event_type) or self._routes["*"]

    def _send(self, queue: str, bodies: Mapping[str, str]) -> Mapping[str, Failure]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.send_message_batch(
                QueueUrl=queue,
                Entries=[{"Id": key, "MessageBody": body} for key, body in bodies.items()],
            )
        except ClientError as error:
            # A retry within seconds cannot cure a refusal of SQS (no such queue, not
            # allowed).
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            throttled = "Throttl" in error.response.get("Error", {}).get("Code", "")
            failure = Failure(str(error), temporary=status >= 500 or throttled)
            return dict.fromkeys(bodies, failure)
        except BotoCoreError as error:
            return dict.fromkeys(bodies, Failure(str(error), temporary=True))
        return {
            entry["Id"]: Failure(entry.get("Message", entry["Code"]), not entry["SenderFault"])
            for entry in answer.get("Failed", [])
        }


def _calls(events: Iterable[Envelope]) -> Iterator[dict[str, str]]:
    for chunk in batched(events, ENTRIES_PER_CALL, strict=False):
        call: dict[str, str] = {}
        size = 0
        for event in chunk:
            body = event.model_dump_json()
            if call and size + len(body.encode()) > BYTES_PER_CALL:
                yield call
                call, size = {}, 0
            call[str(event.event_id)] = body
            size += len(body.encode())
        yield call
