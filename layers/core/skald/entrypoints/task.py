"""Workers of a fan-out: a typed function of one task, whose result counts once (V-04, V-05)."""

from collections.abc import Callable
from uuid import uuid4

from pydantic import BaseModel

from skald.entrypoints.consumer import ConsumerHandler, consumer
from skald.fanout import Counts, FanOut, GivenUp, Task, gate
from skald.fanout.rows import FanOutKey
from skald.messaging.envelope import Envelope
from skald.postgres import database
from skald.telemetry import logger, metrics


def fanout_task(
    fanout: FanOut, *, uncounted: Callable[[Task], None] | None = None
) -> Callable[[Callable[[Task], BaseModel]], ConsumerHandler]:
    """Make the consumer of a fan-out's tasks: its function returns the result of one task.

    The function works without an open transaction and may run again: only the result of the last
    worker that claimed the task counts. It raises `GivenUp` for a task that will never have a
    result. After any other error SQS delivers the message again. A task that killed `max_attempts`
    workers is given up without another attempt. `uncounted` gets a task whose result did not count,
    to remove objects that its worker may have written.
    """

    def decorate(work: Callable[[Task], BaseModel]) -> ConsumerHandler:
        def consume(message: Envelope) -> None:
            task = fanout.task(message)
            counts = _attempt(fanout, task, work)
            if counts is None and uncounted is not None:
                uncounted(task)
            # A task that has ended already also arrives: its worker may have died before that.
            gate.arrive(FanOutKey(task.tenant_id, task.saga_id, fanout.name), task.task_id, counts)

        consume.__name__ = work.__name__
        return consumer(consume)

    return decorate


def _attempt(fanout: FanOut, task: Task, work: Callable[[Task], BaseModel]) -> Counts | None:
    """Claim the task, do its work and end it; returns the counts, None if nothing was counted."""
    worker = uuid4()
    ids = (task.saga_id, task.task_id, worker)
    with database().transaction(task.tenant_id) as tx:
        attempt = fanout.claim(tx, *ids)
    if attempt is None:
        return None
    outcome = _outcome(fanout, task, attempt, work)
    with database().transaction(task.tenant_id) as tx:
        if isinstance(outcome, GivenUp):
            counts = fanout.give_up(tx, *ids, str(outcome))
        else:
            counts = fanout.finish(tx, *ids, outcome)
    logger.info("task ended", extra={"task_id": task.task_id, "counted": counts is not None})
    return counts


def _outcome(
    fanout: FanOut, task: Task, attempt: int, work: Callable[[Task], BaseModel]
) -> BaseModel | GivenUp:
    if attempt > fanout.max_attempts:
        metrics.count("tasks_given_up_count", fanout=fanout.name)
        return GivenUp(f"given up: its worker did not survive {fanout.max_attempts} attempts")
    try:
        return work(task)
    except GivenUp as reason:
        return reason
