"""Q-05, C-06: the adapters of SQS, S3 and schedules; each message fails alone."""

import logging
from typing import Any
from urllib.parse import quote_plus
from uuid import uuid4

import pytest
from tests.conftest import Context
from tests.integration.support import event, sqs_event

from skald.entrypoints.consumer import StoredObject, consumer, object_created
from skald.entrypoints.schedule import SPARE_MILLISECONDS, schedule
from skald.messaging import Envelope
from skald.telemetry import current_trace_id

TENANT = uuid4()


def failed(answer: dict[str, Any]) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def test_only_the_failed_messages_are_given_back(context: Context) -> None:
    """Q-05: a partial batch response names the failed messages, the others are done."""
    seen: list[int] = []

    @consumer
    def handle(envelope: Envelope) -> None:
        seen.append(envelope.payload["number"])
        if envelope.payload["number"] in (2, 4):
            raise ValueError("not this one")

    bodies = [event(TENANT, number=number).model_dump_json() for number in (1, 2, 3, 4)]
    assert failed(handle(sqs_event(*bodies), context)) == ["m1", "m3"]
    assert seen == [1, 2, 3, 4]


def test_a_batch_that_fails_whole_is_given_back_whole(context: Context) -> None:
    """Q-05: the answer is a list, not an exception that hides the causes."""

    @consumer
    def handle(envelope: Envelope) -> None:
        raise ValueError

    body = event(TENANT).model_dump_json()
    assert failed(handle(sqs_event(body, body), context)) == ["m0", "m1"]


@pytest.mark.parametrize("poison", ["", "nonsense", "{}", "[]", '{"event_type": "a.b"}'])
def test_a_poison_message_fails_alone(context: Context, poison: str) -> None:
    """Q-05: a message without an envelope becomes a dead letter, the other messages do not."""
    seen: list[Envelope] = []
    handle = consumer(seen.append)
    assert failed(handle(sqs_event(poison, event(TENANT).model_dump_json()), context)) == ["m0"]
    assert len(seen) == 1


def test_a_message_carries_its_trace(context: Context) -> None:
    """G-09: each message is handled in the trace of the request that caused it."""
    traces: list[str] = []

    @consumer
    def handle(envelope: Envelope) -> None:
        traces.append(current_trace_id())

    bodies = [event(TENANT, trace_id=t * 32).model_dump_json() for t in "ab"]
    handle(sqs_event(*bodies), context)
    assert traces == ["a" * 32, "b" * 32]
    assert current_trace_id() == ""


def test_payloads_are_not_logged(
    context: Context, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Secrets: a failed message is logged by its ids, never by its content."""

    @consumer
    def handle(envelope: Envelope) -> None:
        raise ValueError("not this one")

    with caplog.at_level(logging.DEBUG):
        handle(sqs_event(event(TENANT, payload={"secret": "hunter2"}).model_dump_json()), context)
    printed = capsys.readouterr()
    assert "hunter2" not in caplog.text + printed.out + printed.err
    assert "given back" in caplog.text


@pytest.mark.parametrize("key", ["a/b.log", "Ä b+c%20&d.log", "日志/🚗 (1).ulg"])
def test_object_keys_are_decoded(context: Context, key: str) -> None:
    """C-06: S3 encodes keys in notifications as in a query; '+' is a space, '%2B' a plus."""
    seen: list[StoredObject] = []
    record = {"s3": {"bucket": {"name": "b"}, "object": {"key": quote_plus(key), "size": 5}}}
    object_created(seen.append)({"Records": [record, record]}, context)
    assert seen == [StoredObject(bucket="b", key=key, size=5)] * 2


def test_the_test_notification_of_s3_is_nothing(context: Context) -> None:
    """C-06: S3 sends it without records when a notification is configured."""
    seen: list[StoredObject] = []
    object_created(seen.append)({"Event": "s3:TestEvent"}, context)
    assert seen == []


def test_a_failed_object_is_an_error_for_lambda(context: Context) -> None:
    """C-06: the error reaches Lambda, which tries again and keeps the event if it fails."""

    @object_created
    def handle(stored: StoredObject) -> None:
        raise ValueError("not now")

    record = {"s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}
    with pytest.raises(ValueError, match="not now"):
        handle({"Records": [record]}, context)


def test_a_schedule_knows_when_its_time_is_up(context: Context) -> None:
    """V-06: scheduled work stops while there is time to end in order."""

    @schedule
    def work(is_time_left: Any) -> dict[str, Any]:
        before = is_time_left()
        context.remaining_milliseconds = SPARE_MILLISECONDS - 1
        return {"before": before, "after": is_time_left(), "traced": bool(current_trace_id())}

    assert work({}, context) == {"before": True, "after": False, "traced": True}
