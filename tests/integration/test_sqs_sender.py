"""C-09, Q-05: each envelope reaches the right queue and gets its own result."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from botocore.exceptions import EndpointConnectionError
from tests.integration.support import event

from skald.aws import client
from skald.messaging import Envelope
from skald.messaging.queues import SqsSender


@pytest.fixture
def queues(aws: None) -> dict[str, str]:
    """URLs of an empty queue for one type, and of a queue for all other types."""
    names = {"thing.happened": "things", "*": "rest"}
    return {
        event_type: client("sqs").create_queue(QueueName=f"{name}-{uuid4().hex}")["QueueUrl"]
        for event_type, name in names.items()
    }


@pytest.fixture
def calls(aws: None) -> Any:
    """The entries of each call to SQS."""
    made: list[list[dict[str, str]]] = []

    def note(params: dict[str, Any], **_: object) -> None:
        made.append(params["Entries"])

    events = client("sqs").meta.events
    events.register("provide-client-params.sqs.SendMessageBatch", note)
    yield made
    events.unregister("provide-client-params.sqs.SendMessageBatch", note)


def received(queue: str) -> list[Envelope]:
    """Take all messages out of a queue."""
    messages = []
    while (
        found := client("sqs")
        .receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        .get("Messages")
    ):
        messages += [Envelope.model_validate_json(message["Body"]) for message in found]
    return messages


def test_events_are_routed_by_type(queues: dict[str, str], tenant: UUID) -> None:
    """C-09: a type has its queue, all other types share `*`; the body is the envelope."""
    things = [event(tenant, number=number) for number in range(3)]
    others = [event(tenant, number=9, event_type="other.thing_happened")]
    assert SqsSender(client("sqs"), queues).send([*things, *others]) == {}
    assert received(queues["thing.happened"]) == things
    assert received(queues["*"]) == others


def test_calls_hold_ten_entries(
    queues: dict[str, str], tenant: UUID, calls: list[list[dict[str, str]]]
) -> None:
    """C-09: SQS takes ten entries a call; 25 events need three."""
    events = [event(tenant, number=number) for number in range(25)]
    assert SqsSender(client("sqs"), queues).send(events) == {}
    assert [len(entries) for entries in calls] == [10, 10, 5]
    assert {e.event_id for e in received(queues["thing.happened"])} == {e.event_id for e in events}


def test_calls_stay_below_the_size_limit(
    queues: dict[str, str], tenant: UUID, calls: list[list[dict[str, str]]]
) -> None:
    """C-09: a call holds at most 256 KiB of large events, and all events are sent."""
    events = [event(tenant, number=n, payload={"text": "ä" * 50_000}) for n in range(6)]
    assert SqsSender(client("sqs"), queues).send(events) == {}
    sizes = [sum(len(entry["MessageBody"].encode()) for entry in entries) for entries in calls]
    assert all(size <= 256 * 1024 for size in sizes)
    assert sum(len(entries) for entries in calls) == 6
    assert len(calls) == 3


def test_a_missing_queue_is_a_permanent_failure(queues: dict[str, str], tenant: UUID) -> None:
    """V-12: a retry after seconds cannot help, so there is none; other queues get their events."""
    routes = queues | {"thing.happened": queues["*"] + "-gone"}
    lost, other = event(tenant), event(tenant, number=2, event_type="other.thing_happened")
    failures = SqsSender(client("sqs"), routes).send([lost, other])
    assert set(failures) == {str(lost.event_id)}
    assert not failures[str(lost.event_id)].temporary
    assert received(queues["*"]) == [other]


class Answering:
    """An SQS that gives a chosen answer."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def send_message_batch(self, **_: object) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(("fault", "temporary"), [(True, False), (False, True)])
def test_an_entry_fails_alone(tenant: UUID, fault: bool, temporary: bool) -> None:
    """C-09: each failed entry is handled alone; an error of the sender is not retried."""
    good, bad = event(tenant, number=1), event(tenant, number=2)
    entry = {"Id": str(bad.event_id), "SenderFault": fault, "Code": "C", "Message": "why"}
    sqs: Any = Answering({"Successful": [], "Failed": [entry]})
    failures = SqsSender(sqs, {"*": "q"}).send([good, bad])
    assert set(failures) == {str(bad.event_id)}
    assert failures[str(bad.event_id)].error == "why"
    assert failures[str(bad.event_id)].temporary is temporary


def test_an_sqs_that_does_not_answer_is_temporary(tenant: UUID) -> None:
    """V-12: a lost connection is a temporary failure of every entry of its call."""
    sqs: Any = Answering(EndpointConnectionError(endpoint_url="sqs"))
    (failure,) = SqsSender(sqs, {"*": "q"}).send([event(tenant)]).values()
    assert failure.temporary


def test_the_relay_function_drains_into_its_queues(
    aws: None,
    servers: Any,
    database: Any,
    tenant: UUID,
    admin: Any,
    monkeypatch: pytest.MonkeyPatch,
    context: Any,
) -> None:
    """C-09, X-09: the deployed handler, from the outbox to the queue that a context names."""
    from operations import relay
    from skald.messaging import outbox
    from skald.postgres import Database

    admin.execute("truncate skald.outbox")
    parse, rest = (
        client("sqs").create_queue(QueueName=f"{tenant.hex}-{name}")["QueueUrl"]
        for name in ("batches-parse", "operations-events")
    )
    with database.transaction(tenant) as tx:
        outbox.publish(tx, event(tenant))
        outbox.publish(tx, event(tenant, target="t2", event_type="file.parse"))
    as_relay = Database(servers.relay_dsn, size=1)
    monkeypatch.setattr(relay, "database", lambda: as_relay)
    monkeypatch.setenv("QUEUE_URLS", rest.removesuffix("operations-events"))
    relay._sender.cache_clear()
    assert relay.relay({}, context)["sent"] == 2
    relay._sender.cache_clear()
    as_relay.close()
    assert [taken.event_type for taken in received(parse)] == ["file.parse"]
    assert [taken.event_type for taken in received(rest)] == ["thing.happened"]
