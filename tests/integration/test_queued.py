"""V-13: queued steps, when messages repeat, workers die and executions stop waiting."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from tests.conftest import Context
from tests.integration.support import event, together

from skald.aws import client
from skald.checkpoints import Checkpointer
from skald.command import Command
from skald.entrypoints import queued
from skald.entrypoints.consumer import ConsumerHandler
from skald.entrypoints.queued import Heartbeat, queued_step
from skald.entrypoints.step import Result
from skald.errors import Abandoned
from skald.messaging import inbox
from skald.postgres import Database, Transaction
from skald.saga import SagaLog
from skald.telemetry import workflow_span_id
from skald.traces.reading import find_trace

TOKEN = "token"  # noqa: S105
OVER = {"Error": {"Code": "TaskTimedOut", "Message": "over"}, "ResponseMetadata": {}}

type Work = Callable[[Command, Heartbeat], int]


class _Refused:
    status_code = 400


class Waiting:
    """The executions that wait, the answers to them, and the waits that have ended."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, str]]] = []
        self.over: set[str] = set()
        self.hear: Callable[[], None] = lambda: None

    def __call__(self, model: Any, params: dict[str, Any], **_: object) -> Any:
        said = json.loads(params["body"])
        self.hear()
        if said["taskToken"] in self.over:
            return _Refused(), OVER
        self.told.append((model.name.removeprefix("SendTask"), said))
        return None

    def of(self, kind: str) -> list[dict[str, str]]:
        return [said for name, said in self.told if name == kind]

    @property
    def answers(self) -> list[tuple[str, Any]]:
        return [(said["taskToken"], json.loads(said["output"])) for said in self.of("Success")]


@pytest.fixture
def waiting(aws: None) -> Iterator[Waiting]:
    waiting = Waiting()
    events = client("stepfunctions").meta.events
    events.register("before-call.stepfunctions", waiting)
    yield waiting
    events.unregister("before-call.stepfunctions", waiting)


class Queue:
    """A queue with dead letters, and the event source that gives its messages to a function."""

    def __init__(self) -> None:
        self._sqs = client("sqs")
        self._name = f"tasks-{uuid4()}"
        self.dead = self._sqs.create_queue(QueueName=f"{self._name}-dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": self._arn(self.dead), "maxReceiveCount": queued.RECEIVES}
        self.url = self._sqs.create_queue(
            QueueName=self._name,
            # A message that is neither in flight nor deleted is visible again at once.
            Attributes={"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "0"},
        )["QueueUrl"]

    def _arn(self, url: str) -> str:
        found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return found["Attributes"]["QueueArn"]

    def send(self, body: object) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self._sqs.send_message(QueueUrl=self.url, MessageBody=text)

    def deliver(self, handler: ConsumerHandler) -> bool | None:
        """Deliver one visible message. Returns whether it was done, None if there is none."""
        found = self._sqs.receive_message(QueueUrl=self.url, AttributeNames=["All"])
        for message in found.get("Messages", ()):
            record = {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "eventSource": "aws:sqs",
                "eventSourceARN": self._arn(self.url),
            }
            if handler({"Records": [record]}, Context())["batchItemFailures"]:
                return False
            self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            return True
        return None

    def count(self, url: str) -> int:
        """Return how many messages a queue has, including those in flight."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(number) for number in found["Attributes"].values())


@pytest.fixture
def queue(aws: None) -> Queue:
    return Queue()


@pytest.fixture
def hidden(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The visibility timeouts that were set. Here messages are visible again at once."""
    seconds: list[int] = []

    def note(params: dict[str, Any], **_: object) -> None:
        seconds.append(params["VisibilityTimeout"])
        params["VisibilityTimeout"] = 0

    events = client("sqs").meta.events
    events.register("provide-client-params.sqs.ChangeMessageVisibility", note)
    yield seconds
    events.unregister("provide-client-params.sqs.ChangeMessageVisibility", note)


@pytest.fixture
def told(tenant: UUID) -> dict[str, Any]:
    """The input that the state machine puts into the message."""
    return {
        "saga_id": "saga",
        "tenant_id": str(tenant),
        "trace_id": "a" * 32,
        "task_token": TOKEN,
    }


def made_of(work: Work) -> ConsumerHandler:
    """Return a step that counts its effects in the inbox."""

    @queued_step(work)
    def judge(command: Command, tx: Transaction, product: int) -> Result:
        inbox.accept(tx, event(tx.tenant_id, number=product), "step")
        return {"product": product}

    return judge


def always(product: int, works: list[int] | None = None) -> Work:
    def work(command: Command, heartbeat: Heartbeat) -> int:
        if works is not None:
            works.append(product)
        return product

    return work


def failing(*errors: Exception) -> Work:
    """Raise each error in turn, then work."""
    left = list(errors)

    def work(command: Command, heartbeat: Heartbeat) -> int:
        if left:
            raise left.pop(0)
        return 1

    return work


def effects(database: Database, tenant: UUID) -> int:
    with database.transaction(tenant) as tx:
        return int(tx.value("select count(*) from skald.inbox"))


def recorded(database: Database, tenant: UUID) -> Result | None:
    with database.transaction(tenant) as tx:
        return SagaLog(tx, "saga").recorded("judge")


# Success ------------------------------------------------------------------------------------------


def test_the_answer_follows_the_commit(
    queue: Queue, waiting: Waiting, database: Database, tenant: UUID, told: dict[str, Any]
) -> None:
    """C-07: the execution with the answer finds the effect, the result and the record."""
    seen: list[Result | None] = []
    waiting.hear = lambda: seen.append(recorded(database, tenant))
    queue.send(told)
    assert queue.deliver(made_of(always(1))) is True
    assert waiting.answers == [(TOKEN, {"product": 1})]
    assert seen == [None, {"product": 1}], "the heartbeat before the work, the answer after it"
    assert effects(database, tenant) == 1


def test_a_message_that_comes_twice_is_answered_from_the_record(
    queue: Queue, waiting: Waiting, database: Database, tenant: UUID, told: dict[str, Any]
) -> None:
    """Q-05, V-13: SQS delivers at least once, and the work is done once."""
    works: list[int] = []
    judge = made_of(always(1, works))
    for token in (TOKEN, TOKEN, "token of the retried state"):
        queue.send(told | {"task_token": token})
        assert queue.deliver(judge) is True
    assert works == [1]
    assert effects(database, tenant) == 1
    assert [token for token, _ in waiting.answers] == [TOKEN, TOKEN, "token of the retried state"]


def test_an_answer_that_got_lost_is_given_by_the_next_delivery(
    queue: Queue,
    waiting: Waiting,
    hidden: list[int],
    database: Database,
    tenant: UUID,
    told: dict[str, Any],
) -> None:
    """C-07: after the commit, an error of the answer neither fails nor repeats the work."""
    works: list[int] = []
    judge = made_of(always(1, works))

    def lose() -> None:
        if recorded(database, tenant):
            waiting.hear = lambda: None
            raise ConnectionResetError

    waiting.hear = lose
    queue.send(told)
    assert queue.deliver(judge) is False
    assert (waiting.answers, waiting.of("Failure")) == ([], [])
    assert queue.deliver(judge) is True
    assert waiting.answers == [(TOKEN, {"product": 1})]
    assert works == [1]


def test_a_command_without_a_token_is_done_without_an_answer(
    queue: Queue, waiting: Waiting, database: Database, tenant: UUID, told: dict[str, Any]
) -> None:
    """C-06: a command from `scripts/invoke` has no token."""
    del told["task_token"]
    queue.send(told)
    assert queue.deliver(made_of(always(1))) is True
    assert recorded(database, tenant) == {"product": 1}
    assert waiting.told == []


def test_the_trace_shows_how_long_it_waited(
    waiting: Waiting, database: Database, tenant: UUID, told: dict[str, Any]
) -> None:
    """G-09: the time in the queue is a span between workflow and step, also after a redelivery."""
    record = {
        "messageId": str(uuid4()),
        "receiptHandle": "receipt",
        "body": json.dumps(told),
        "attributes": {
            "SentTimestamp": "1000",
            "ApproximateFirstReceiveTimestamp": "5000",
            "ApproximateReceiveCount": "1",
        },
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:tasks",
    }
    judge = made_of(always(1))
    for _ in range(2):
        assert judge({"Records": [record]}, Context()) == {"batchItemFailures": []}
    with database.transaction(tenant) as tx:
        trace = find_trace(tx, told["trace_id"])
    assert trace is not None
    stay, *steps = [span for span in trace.spans if span.kind in ("queue", "step")]
    assert (stay.kind, stay.name, stay.duration_ms) == ("queue", "judge", 4000)
    assert stay.parent_span_id == workflow_span_id("saga")
    assert [(one.name, one.parent_span_id) for one in steps] == [("judge", stay.span_id)] * 2


# Heartbeats ---------------------------------------------------------------------------------------


def test_a_heartbeat_keeps_the_message_and_the_wait(
    queue: Queue, waiting: Waiting, hidden: list[int], told: dict[str, Any]
) -> None:
    """V-13: a living worker keeps both; the message of a dead worker comes back after its lease."""

    def work(command: Command, heartbeat: Heartbeat) -> int:
        assert heartbeat() is True
        return 1

    queue.send(told)
    assert queue.deliver(made_of(work)) is True
    assert hidden == [queued.LEASE_SECONDS] * 2
    assert [said["taskToken"] for said in waiting.of("Heartbeat")] == [TOKEN] * 2


def test_without_sqs_hearing_of_it_the_work_goes_on(
    queue: Queue, waiting: Waiting, told: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """V-12: an invalid receipt handle means only that the message may come again."""
    judge = made_of(always(1))
    record = {
        "messageId": "m",
        "receiptHandle": "expired",
        "body": json.dumps(told),
        "attributes": {"ApproximateReceiveCount": "2"},
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:no-such-queue",
    }
    assert judge({"Records": [record]}, Context()) == {"batchItemFailures": []}
    assert waiting.answers == [(TOKEN, {"product": 1})]


def test_a_message_whose_wait_has_ended_is_ignored(
    queue: Queue, waiting: Waiting, database: Database, tenant: UUID, told: dict[str, Any]
) -> None:
    """V-13: the state was retried or the pipeline has ended, so the message is ignored."""
    works: list[int] = []
    waiting.over.add(TOKEN)
    queue.send(told)
    assert queue.deliver(made_of(always(1, works))) is True
    assert (works, recorded(database, tenant), waiting.told) == ([], None, [])


def test_a_wait_that_ends_during_the_work_is_abandoned_and_taken_up_by_the_next(
    queue: Queue, waiting: Waiting, database: Database, tenant: UUID, told: dict[str, Any]
) -> None:
    """V-13: the worker sees that its token is dead, and the message of the new token continues."""

    def work(command: Command, heartbeat: Heartbeat) -> int:
        waiting.over.add(TOKEN)
        if not heartbeat():
            raise Abandoned("as told")
        return 1

    judge = made_of(work)
    for token, expected in ((TOKEN, None), ("second", {"product": 1})):
        queue.send(told | {"task_token": token})
        assert queue.deliver(judge) is True
        assert recorded(database, tenant) == expected
    assert [token for token, _ in waiting.answers] == ["second"]
    assert waiting.of("Failure") == []


# Two workers --------------------------------------------------------------------------------------


def test_a_second_message_waits_for_the_first_worker_and_is_answered_too(
    queue: Queue,
    waiting: Waiting,
    hidden: list[int],
    database: Database,
    tenant: UUID,
    told: dict[str, Any],
) -> None:
    """G-02, V-13: two workers at one thread: the second returns its message and succeeds later."""
    is_at_work, may_end = threading.Event(), threading.Event()
    works: list[str] = []

    def work(command: Command, heartbeat: Heartbeat) -> int:
        with Checkpointer(database, tenant).writing(command.saga_id):
            works.append(command.saga_id)
            is_at_work.set()
            assert may_end.wait(60)
        return 1

    judge, another = made_of(work), made_of(work)  # one process each

    def first() -> bool | None:
        return queue.deliver(judge)

    def second() -> bool | None:
        assert is_at_work.wait(60)
        other = Queue()
        other.send(told | {"task_token": "second"})
        try:
            # The same on the last delivery, because the other worker will answer.
            while other.count(other.dead) == 0:
                assert other.deliver(another) is not True
        finally:
            may_end.set()
        return False

    queue.send(told)
    assert together(first, second) == [True, False]
    assert works == ["saga"]
    assert waiting.of("Failure") == []
    queue.send(told | {"task_token": "second"})
    assert queue.deliver(judge) is True
    assert waiting.answers == [(TOKEN, {"product": 1}), ("second", {"product": 1})]
    assert effects(database, tenant) == 1


# Failures -----------------------------------------------------------------------------------------


def test_a_temporary_error_gives_the_message_back_for_longer_each_time(
    queue: Queue,
    waiting: Waiting,
    hidden: list[int],
    database: Database,
    tenant: UUID,
    told: dict[str, Any],
) -> None:
    """V-12: the delay grows; the execution goes on waiting and gets no error."""
    judge = made_of(failing(*[psycopg.OperationalError("gone")] * 3))
    queue.send(told)
    assert [queue.deliver(judge) for _ in range(4)] == [False, False, False, True]
    pauses = [seconds for seconds in hidden if seconds != queued.LEASE_SECONDS]
    assert all(3 * 2**n <= pause <= 7 * 2**n for n, pause in enumerate(pauses)), pauses
    assert len(pauses) == 3
    assert waiting.of("Failure") == []
    assert waiting.answers == [(TOKEN, {"product": 1})]
    with database.transaction(tenant) as tx:
        assert tx.value("select attempts from skald.saga_steps where step = 'judge'") == 4


def test_the_last_delivery_tells_the_wait_and_leaves_a_dead_letter(
    queue: Queue, waiting: Waiting, hidden: list[int], told: dict[str, Any]
) -> None:
    """V-12, V-13: after the last attempt the pipeline compensates, and the message is kept."""
    judge = made_of(failing(*[psycopg.OperationalError("gone")] * 99))
    queue.send(told)
    for last in range(queued.RECEIVES):
        assert waiting.of("Failure") == []
        assert queue.deliver(judge) is False, last
    [failure] = waiting.of("Failure")
    assert failure == {"taskToken": TOKEN, "error": "Temporary", "cause": "OperationalError: gone"}
    assert queue.deliver(judge) is None
    assert (queue.count(queue.url), queue.count(queue.dead)) == (0, 1)


def test_a_permanent_error_fails_the_task_by_its_name(
    queue: Queue, waiting: Waiting, database: Database, tenant: UUID, told: dict[str, Any]
) -> None:
    """C-07: the pipeline compensates; neither the effect nor the message stays."""
    queue.send(told)
    assert queue.deliver(made_of(failing(ZeroDivisionError("no luck")))) is True
    [failure] = waiting.of("Failure")
    assert failure == {"taskToken": TOKEN, "error": "ZeroDivisionError", "cause": "no luck"}
    assert (recorded(database, tenant), effects(database, tenant)) == (None, 0)
    with database.transaction(tenant) as tx:
        error = tx.value("select error from skald.saga_steps where step = 'judge'")
    assert error == "ZeroDivisionError: no luck"


def test_a_failure_report_that_got_lost_is_sent_by_the_next_delivery(
    queue: Queue, waiting: Waiting, hidden: list[int], told: dict[str, Any]
) -> None:
    """V-13: the report of a failure may be lost like an answer, and is repeated like one."""
    judge = made_of(failing(ZeroDivisionError("no luck"), ZeroDivisionError("no luck")))
    calls = iter([None, ConnectionResetError(), None, None])

    def lose() -> None:
        if error := next(calls):
            raise error

    waiting.hear = lose
    queue.send(told)
    assert queue.deliver(judge) is False
    assert waiting.of("Failure") == []
    assert queue.deliver(judge) is True
    assert [failure["error"] for failure in waiting.of("Failure")] == ["ZeroDivisionError"]


def test_an_incomplete_command_fails_its_wait(
    queue: Queue, waiting: Waiting, told: dict[str, Any]
) -> None:
    """C-07: a command without a tenant does nothing and is not retried."""
    del told["tenant_id"]
    queue.send(told)
    assert queue.deliver(made_of(always(1))) is True
    assert [failure["error"] for failure in waiting.of("Failure")] == ["ValidationError"]


def test_what_cannot_be_read_becomes_a_dead_letter(queue: Queue, waiting: Waiting) -> None:
    """Q-05: a poison message is kept, and no task token gets an answer."""
    judge = made_of(always(1))
    queue.send("{")
    while queue.count(queue.dead) == 0:
        assert queue.deliver(judge) is not True
    assert waiting.told == []
