"""Step Functions tasks: a typed function of command and transaction, done once per saga."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, get_type_hints

from aws_lambda_powertools.utilities.typing import LambdaContext

from skald.command import Command
from skald.entrypoints.entry import entry
from skald.errors import TooLarge
from skald.messaging.envelope import MAX_BYTES
from skald.postgres import Transaction, database
from skald.saga import SagaLog
from skald.saga.log import Result as Result
from skald.telemetry import Kind, TraceContext, logger, new_trace_id, workflow_span_id
from skald.temporary import temporary_errors


class StepHandler(Protocol):
    """A Lambda handler for one Task state."""

    def __call__(self, event: dict[str, Any], context: LambdaContext, /) -> Result: ...


def step[C: Command](function: Callable[[C, Transaction], Result]) -> StepHandler:
    """Make a step whose effect is rows: it runs once per saga, in the transaction of its record.

    A retried step returns what it recorded. The step's name is the function's.
    """
    command_type: type[C] = type_of_command(function)

    def handler(event: dict[str, Any], _: LambdaContext, /) -> Result:
        with (
            running(command_type, event, function.__name__) as command,
            database().transaction(command.tenant_id) as transaction,
        ):
            log = SagaLog(transaction, command.saga_id)
            return log.run_step(function.__name__, lambda: _checked(function(command, transaction)))

    return handler


def step_with_work[C: Command, W](
    work: Callable[[C], W],
) -> Callable[[Callable[[C, Transaction, W], Result]], StepHandler]:
    """Make a step that also works outside PostgreSQL, where a transaction must not stay open.

    `work` runs first and may run again. It writes objects under derived names, so that a repetition
    overwrites them. Its outcome is passed to the function, which runs once like any step. A step
    that is already recorded does no work.
    """

    def decorate(function: Callable[[C, Transaction, W], Result]) -> StepHandler:
        command_type: type[C] = type_of_command(function)
        name = function.__name__

        def handler(event: dict[str, Any], _: LambdaContext, /) -> Result:
            with running(command_type, event, name) as command:
                return work_then_record(command, name, work, function)

        return handler

    return decorate


def waiting_step[C: Command](function: Callable[[C, Transaction], None]) -> StepHandler:
    """Make a `.waitForTaskToken` step. It only stores its token, so every attempt runs."""
    command_type: type[C] = type_of_command(function)

    def handler(event: dict[str, Any], _: LambdaContext, /) -> Result:
        with (
            running(command_type, event, function.__name__) as command,
            database().transaction(command.tenant_id) as transaction,
        ):
            function(command, transaction)
        return {}

    return handler


def work_then_record[C: Command, W](
    command: C,
    name: str,
    work: Callable[[C], W],
    function: Callable[[C, Transaction, W], Result],
) -> Result:
    """Do the work, then the step with its record; a step that is recorded already does nothing."""
    with database().single_statement(command.tenant_id) as transaction:
        done = SagaLog(transaction, command.saga_id).recorded(name)
    if done is not None:
        return done
    product = work(command)
    with database().transaction(command.tenant_id) as transaction:
        log = SagaLog(transaction, command.saga_id)
        return log.run_step(name, lambda: _checked(function(command, transaction, product)))


def from_workflow(command: Command) -> TraceContext:
    """Return the parent of all steps of a saga: the span that starts its execution."""
    return TraceContext(command.trace_id or new_trace_id(), workflow_span_id(command.saga_id))


@contextmanager
def running[C: Command](
    command_type: type[C],
    event: dict[str, Any],
    name: str,
    parent: Callable[[Command], TraceContext] = from_workflow,
) -> Iterator[C]:
    """Parse the command, continue its trace, and raise `Temporary` for errors to retry.

    `parent` returns the parent of the step's span.
    """
    command = command_type.model_validate(event)
    with (
        entry(
            Kind.STEP, name, parent(command), tenant_id=command.tenant_id, saga_id=command.saga_id
        ),
        temporary_errors(),
    ):
        logger.info("step begins", extra={"step": name, "saga_id": command.saga_id})
        try:
            yield command
        except Exception as error:
            _note_failure(command, name, error)
            raise


def _note_failure(command: Command, name: str, error: Exception) -> None:
    """Record a failed attempt in the saga log, in a transaction of its own."""
    try:
        with database().single_statement(command.tenant_id) as transaction:
            log = SagaLog(transaction, command.saga_id)
            log.note_failure(name, f"{type(error).__name__}: {error}")
    except Exception:
        logger.warning("a failed attempt is missing in the saga log", extra={"step": name})


def type_of_command(function: Callable[..., Any]) -> Any:
    """Return the type of a step's first parameter."""
    return next(iter(get_type_hints(function).values()))


def _checked(result: Result) -> Result:
    """Return the result, which holds ids and keys, not data; raises `TooLarge`."""
    if len(json.dumps(result, default=str).encode()) > MAX_BYTES:
        raise TooLarge(f"a step returned more than {MAX_BYTES} bytes")
    return result
