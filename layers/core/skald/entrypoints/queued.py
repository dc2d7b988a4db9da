"""Queued steps: work that a state waits for by task token, done by a consumer of SQS (V-13).

The queue keeps the work until there is room for it, and brings it back when its worker dies. The
saga log knows whether it is done, and the token is answered after the commit: what a crash leaves
unanswered between the two, the next delivery answers from the log.
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
"""Deliveries before a message is left to the dead letters: the queue's `maxReceiveCount`."""
LEASE_SECONDS = 30
"""A message whose worker has been silent for so long is delivered again."""
BACKOFF_SECONDS = (5, 300)

type Heartbeat = Callable[[], bool]
"""Call it at least every third of the lease; False means that the state waits no more."""


def queued_step[C: Command, W](
    work: Callable[[C, Heartbeat], W],
) -> Callable[[Callable[[C, Transaction, W], Result]], ConsumerHandler]:
    """Make a step of messages `{command…, "task_token": …}`, with work outside of PostgreSQL.

    `work` is told how to give signs of life and may raise `Abandoned` when it is not awaited any
    more. It may run again, as in `step_with_work`. Temporary errors give the message back, all
    others fail the task by their name.
    """

    def decorate(function: Callable[[C, Transaction, W], Result]) -> ConsumerHandler:
        command_type: type[C] = type_of_command(function)
        name = function.__name__

        def attempt(task: QueuedTask) -> Result:
            def awaited_work(command: C) -> W:
                if not task.heartbeat():
                    raise Abandoned(f"nobody waits for {name} of {command.saga_id} any more")
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
    """One message of a queued step: its command, its place in the queue, who waits for it.

    A command without a token was sent by hand: its outcome is reported to no state.
    """

    def __init__(self, record: SQSRecord) -> None:
        self.command: dict[str, Any] = json.loads(record.body)
        self._token: str | None = self.command.get("task_token")
        self._message = InFlightMessage(record)
        self._message_id = record.message_id
        self._attributes: dict[str, str] = record["attributes"]

    def arrived(self, name: str, command: Command) -> TraceContext:
        """Record how long it waited for a worker; returns the parent of the worker's span."""
        return waited(
            from_workflow(command),
            name,
            self._message_id,
            self._attributes,
            tenant_id=command.tenant_id,
            saga_id=command.saga_id,
        )

    def heartbeat(self) -> bool:
        """Keep the message and the wait alive; False when the state has stopped waiting."""
        self._message.set_visibility(LEASE_SECONDS)
        return self._token is None or tokens.heartbeat(self._token)

    def succeed(self, result: Result) -> None:
        if self._token is not None:
            tokens.succeed(self._token, result)

    def fail(self, error: Exception) -> None:
        if self._token is not None:
            tokens.fail(self._token, type(error).__name__, str(error))

    def retry_later(self, error: Temporary) -> None:
        """Let the queue deliver the message again later; after the last delivery, fail the task.

        It does not fail the task if another worker is busy with it: that worker will answer.
        """
        if self._message.receives >= RECEIVES and not isinstance(error.__cause__, Busy):
            self.fail(error)
        shortest, longest = BACKOFF_SECONDS
        pause = min(longest, shortest * 2 ** (self._message.receives - 1))
        self._message.set_visibility(pause * random.uniform(0.75, 1.25))  # noqa: S311 (no secret)


def _settle(task: QueuedTask, attempt: Callable[[QueuedTask], Result]) -> None:
    """Attempt the step and tell who waits how it ended; raises what gives the message back."""
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
