"""Queued steps: a consumer of SQS does the work, a state waits for it by task token (V-13).

The queue keeps the message until a worker is free, and delivers it again when its worker dies. The
saga log holds whether the step is done. The token is answered after the commit. A crash between the
two leaves the token unanswered; the next delivery answers it from the log.
"""

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from skald.command import Command
from skald.entrypoints.consumer import ConsumerHandler, each_record, logged
from skald.entrypoints.step import (
    Result,
    from_workflow,
    running,
    type_of_command,
    work_then_record,
)
from skald.entrypoints.transit import waited
from skald.errors import Abandoned, Busy, Temporary
from skald.messaging.visibility import InFlightMessage
from skald.postgres import Transaction
from skald.saga import tokens
from skald.telemetry import TraceContext, logger, trace

RECEIVES = 8
"""Deliveries before a message becomes a dead letter: the queue's `maxReceiveCount`."""
LEASE_SECONDS = 30
"""SQS delivers a message again when its worker sent no heartbeat for this long."""
BACKOFF_SECONDS = (5, 300)

type Heartbeat = Callable[[], bool]
"""Call it at least every third of the lease; False means that the state no longer waits."""


def queued_step[C: Command, W](
    work: Callable[[C, Heartbeat], W],
) -> Callable[[Callable[[C, Transaction, W], Result]], ConsumerHandler]:
    """Make a step of messages `{command…, "task_token": …}`, with work outside of PostgreSQL.

    `work` gets a heartbeat to call, and may raise `Abandoned` when the state no longer waits. It
    may run again, as in `step_with_work`. After a temporary error SQS delivers the message again.
    Any other error fails the task; its name is the name of the error's class.
    """

    def decorate(function: Callable[[C, Transaction, W], Result]) -> ConsumerHandler:
        command_type: type[C] = type_of_command(function)
        name = function.__name__

        def attempt(task: QueuedTask) -> Result:
            def awaited_work(command: C) -> W:
                if not task.heartbeat():
                    raise Abandoned(f"no state waits for {name} of {command.saga_id} any more")
                return work(command, task.heartbeat)

            parent = partial(task.arrived, name)
            with running(command_type, task.command, name, parent) as command:
                return work_then_record(command, name, awaited_work, function)

        def consume(record: SQSRecord) -> None:
            task = QueuedTask(record)
            with trace(task.command.get("trace_id")):
                logged(lambda: _settle(task, attempt))

        return each_record(consume)

    return decorate


class QueuedTask:
    """One message of a queued step: its command, its receipt, and the token of the waiting state.

    A command without a token was sent by hand: no state waits for its outcome.
    """

    def __init__(self, record: SQSRecord) -> None:
        self.command: dict[str, Any] = json.loads(record.body)
        self._token: str | None = self.command.get("task_token")
        self._message = InFlightMessage(record)
        self._message_id = record.message_id
        self._attributes: dict[str, str] = record["attributes"]

    def arrived(self, name: str, command: Command) -> TraceContext:
        """Record how long the message waited; returns the parent of the worker's span."""
        return waited(
            from_workflow(command),
            name,
            self._message_id,
            self._attributes,
            tenant_id=command.tenant_id,
            saga_id=command.saga_id,
        )

    def heartbeat(self) -> bool:
        """Extend the message's lease and the state's wait; False when the state no longer waits."""
        self._message.set_visibility(LEASE_SECONDS)
        return self._token is None or tokens.heartbeat(self._token)

    def succeed(self, result: Result) -> None:
        if self._token is not None:
            tokens.succeed(self._token, result)

    def fail(self, error: Exception) -> None:
        if self._token is not None:
            tokens.fail(self._token, type(error).__name__, str(error))

    def retry_later(self, error: Temporary) -> None:
        """Let the queue deliver the message again later. After the last delivery, fail the task.

        The task does not fail if another worker is busy with it: that worker will answer.
        """
        if self._message.receives >= RECEIVES and not isinstance(error.__cause__, Busy):
            self.fail(error)
        shortest, longest = BACKOFF_SECONDS
        pause = min(longest, shortest * 2 ** (self._message.receives - 1))
        self._message.set_visibility(pause * random.uniform(0.75, 1.25))  # noqa: S311 (no secret)


def _settle(task: QueuedTask, attempt: Callable[[QueuedTask], Result]) -> None:
    """Attempt the step and answer its token; raises an error that returns the message to SQS."""
    try:
        result = attempt(task)
    except Abandoned as error:
        logger.info("step abandoned", extra={"reason": str(error)})
    except Temporary as error:
        task.retry_later(error)
        raise
    except Exception as error:
        logger.exception("step failed for good")
        task.fail(error)
    else:
        task.succeed(result)
