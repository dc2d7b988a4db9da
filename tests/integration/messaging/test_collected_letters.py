"""V-12, Q-05: a message that a queue gave up becomes a dead letter of its tenant, for a replay."""

import json
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.conftest import Context
from tests.integration.support import Answer, call, event, proxy_event, sqs_event

from operations.dead_letters import NOBODY, collect
from operations.operator_api import handler
from skald.entrypoints.consumer import consumer
from skald.messaging import Envelope, outbox
from skald.postgres import Database


@pytest.fixture(autouse=True)
def no_letters(database: Database, admin: Connection[DictRow]) -> None:
    """Letters without a tenant belong to no test, so delete them first."""
    admin.execute("truncate skald.dead_letters, skald.outbox")


def give_up(*bodies: str) -> None:
    """Let `ParseQueue` give messages up; then collect them from its dead-letter queue."""
    told = sqs_event(*bodies)
    for record in told["Records"]:
        record["eventSourceARN"] = "arn:aws:sqs:us-east-1:123456789012:letters"
        record["attributes"] = {
            "ApproximateReceiveCount": "6",
            "DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:123456789012:ParseQueue",
        }
    assert collect(told, Context()) == {"batchItemFailures": []}


def ask(key: str, method: str = "GET", path: str = "/dead-letters") -> Answer:
    return call(handler, proxy_event(method, path, headers={"X-Api-Key": key}))


def letters(key: str) -> list[Any]:
    answer = ask(key)
    assert answer.status == 200, answer.text
    items: list[Any] = answer.body["items"]
    return items


def letters_of(admin: Connection[DictRow], tenant: UUID) -> list[DictRow]:
    query = "select source, message, error from skald.dead_letters where tenant_id = %s"
    return admin.execute(query, (tenant,)).fetchall()


def replay(key: str, letter: dict[str, Any]) -> Answer:
    return ask(key, "POST", f"/dead-letters/{letter['dead_letter_id']}/replay")


def waiting(admin: Connection[DictRow], tenant: UUID) -> list[str]:
    rows = admin.execute(
        "select status from skald.outbox where tenant_id = %s order by position", (tenant,)
    )
    return [row["status"] for row in rows]


def test_a_letter_has_event_source_count_and_time(tenant: UUID, api_key: str) -> None:
    """V-12: it has all that is known of a message that was received too often."""
    give_up(event(tenant).model_dump_json())
    (letter,) = letters(api_key)
    assert letter["event_id"] == letter["envelope"]["event_id"] == str(event(tenant).event_id)
    assert (letter["source"], letter["receive_count"]) == ("ParseQueue", 6)
    assert letter["error"] == "received 6 times, and never dealt with"
    assert letter["failed_at"]
    assert letter["message"] is None


def test_a_letter_names_its_cause(tenant: UUID, api_key: str) -> None:
    """V-12: the last error of the consumer is taken from its span."""

    @consumer
    def take(_: Envelope) -> None:
        raise ZeroDivisionError

    body = event(tenant).model_dump_json()
    assert take(sqs_event(body), Context())["batchItemFailures"] != []
    give_up(body)
    (letter,) = letters(api_key)
    assert letter["error"] == "take failed: ZeroDivisionError"


def test_a_message_that_comes_twice_is_one_letter(tenant: UUID, api_key: str) -> None:
    """Q-05: the collector may be killed before it deletes its messages."""
    body = event(tenant).model_dump_json()
    give_up(body)
    give_up(body)
    assert len(letters(api_key)) == 1


def test_a_foreign_letter_does_not_exist(tenant: UUID, api_key: str, other_api_key: str) -> None:
    """Q-10: a tenant does not see the letters of another tenant."""
    give_up(event(tenant).model_dump_json())
    (letter,) = letters(api_key)
    assert letters(other_api_key) == []
    assert replay(other_api_key, letter).status == 404


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_replayed_letter_goes_to_its_queue_again(
    database: Database, admin: Connection[DictRow], tenant: UUID, api_key: str, is_forgotten: bool
) -> None:
    """Q-05: once and audited, through the outbox, even after retention has emptied it."""
    with database.transaction(tenant) as tx:
        outbox.publish(tx, event(tenant))
    admin.execute("update skald.outbox set status = 'published', published_at = now()")
    if is_forgotten:
        admin.execute("delete from skald.outbox")
    give_up(event(tenant).model_dump_json())
    (letter,) = letters(api_key)
    answer = replay(api_key, letter)
    assert answer.status == 202, answer.text
    assert answer.body["replayed_by"] == "key:test"
    assert waiting(admin, tenant) == ["pending"]
    assert replay(api_key, letter).status == 409
    with database.transaction(tenant) as tx:
        stored = outbox.find(tx, event(tenant).event_id)
    assert stored is not None
    assert stored.payload == event(tenant).payload


POISON = {
    "text": "no JSON",
    "list": "[1]",
    "nest": "[" * 100_000,
    "object": '{"a": 1}',
    "tenant that is none": '{"tenant_id": 7}',
    "lost object that is none": '{"requestPayload": {"Records": [{"s3": {"object": {"key": 7}}}]}}',
}


@pytest.mark.parametrize("body", POISON.values(), ids=POISON.keys())
def test_poison_is_kept_for_the_operator(
    admin: Connection[DictRow], api_key: str, body: str
) -> None:
    """Q-10: a letter without a tenant is stored unchanged, and no tenant sees it."""
    give_up(body)
    (letter,) = letters_of(admin, NOBODY)
    assert (letter["source"], letter["message"]) == ("ParseQueue", body)
    assert letters(api_key) == []


def test_what_is_no_event_is_shown_but_not_replayed(
    admin: Connection[DictRow], tenant: UUID, api_key: str
) -> None:
    """Q-05: the tenant of an undelivered task sees its letter; no consumer could take it again."""
    give_up(json.dumps({"tenant_id": str(tenant), "saga_id": "s"}))
    (letter,) = letters(api_key)
    assert (letter["event_id"], letter["envelope"]) == (None, None)
    assert json.loads(letter["message"])["saga_id"] == "s"
    answer = replay(api_key, letter)
    assert (answer.status, answer.body["detail"]) == (
        409,
        "this dead letter holds no event and cannot be replayed",
    )
    assert waiting(admin, tenant) == []


def test_no_token_is_kept(tenant: UUID, api_key: str) -> None:
    """Secrets: the task token is a permission to answer, so it is removed."""
    give_up(json.dumps({"tenant_id": str(tenant), "task_token": "AQCEA"}))
    (letter,) = letters(api_key)
    assert "AQCEA" not in letter["message"]


def test_an_event_that_cannot_be_stored_is_kept_as_text(tenant: UUID, api_key: str) -> None:
    """Q-05: jsonb cannot hold NUL, so a NUL in a payload must not stop the collector."""
    body = event(tenant, payload={"name": "a\0b"}).model_dump_json()
    give_up(body)
    (letter,) = letters(api_key)
    assert (letter["envelope"], letter["message"]) == (None, body)


def test_a_lost_notification_becomes_a_letter_of_its_tenant(tenant: UUID, api_key: str) -> None:
    """C-06: the notification of S3 to a function that failed three times, with its error."""
    stored = {"object": {"key": f"batches/{tenant}/{event(tenant).event_id}/a+b.log"}}
    lost = {
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": {"Records": [{"s3": stored}]},
        "responsePayload": {"errorType": "OperationalError", "errorMessage": "no connection"},
    }
    give_up(json.dumps(lost))
    (letter,) = letters(api_key)
    assert letter["error"] == "OperationalError: no connection"
    assert json.loads(letter["message"])["requestPayload"]["Records"] == [{"s3": stored}]
