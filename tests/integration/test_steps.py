"""C-07: the adapters that turn functions into tasks of Step Functions."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import ValidationError
from tests.conftest import Context
from tests.integration.support import event

from skald.command import Command
from skald.entrypoints.step import Result, step, step_with_work, waiting_step
from skald.errors import Temporary, TooLarge, Unavailable
from skald.messaging import inbox
from skald.postgres import Database, Transaction
from skald.saga import SagaLog
from skald.telemetry import current_trace_id

BIG = {"text": "x" * 210_000}
type Invoke = Callable[..., Result]


@pytest.fixture
def told(database: Database, tenant: UUID) -> dict[str, Any]:
    """The input of a task, with more fields than a step needs."""
    return {"saga_id": "saga", "tenant_id": str(tenant), "trace_id": "a" * 32, "other": 1}


def note(tx: Transaction, number: int) -> None:
    inbox.accept(tx, event(tx.tenant_id, number=number), "step")


def notes(database: Database, tenant: UUID) -> int:
    with database.transaction(tenant) as tx:
        return int(tx.value("select count(*) from skald.inbox"))


def recorded(database: Database, tenant: UUID, name: str) -> Result | None:
    with database.transaction(tenant) as tx:
        return SagaLog(tx, "saga").recorded(name)


# step ---------------------------------------------------------------------------------------------


def test_a_step_runs_once_and_repeats_its_result(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """C-07: a retried task has one effect; its name in the log is the function's."""
    runs: list[Command] = []

    @step
    def count(command: Command, tx: Transaction) -> Result:
        runs.append(command)
        note(tx, len(runs))
        return {"run": len(runs)}

    assert [count(told, context), count(told, context)] == [{"run": 1}] * 2
    assert notes(database, tenant) == 1
    assert recorded(database, tenant, "count") == {"run": 1}
    assert (runs[0].saga_id, runs[0].tenant_id) == ("saga", tenant)


def test_a_step_carries_its_sagas_trace(told: dict[str, Any], context: Context) -> None:
    """G-09: logs and messages of a step have the trace of the request that started the saga."""

    @step
    def look(command: Command, tx: Transaction) -> Result:
        return {"trace": current_trace_id()}

    assert look(told, context) == {"trace": "a" * 32}
    assert current_trace_id() == ""


def test_a_failed_step_leaves_nothing_and_may_run_again(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """C-07: after an error there is neither effect nor record, and the error keeps its name."""
    fails = iter([True, False])

    @step
    def stumble(command: Command, tx: Transaction) -> Result:
        note(tx, 1)
        if next(fails):
            raise ZeroDivisionError
        return {"done": True}

    with pytest.raises(ZeroDivisionError):
        stumble(told, context)
    assert notes(database, tenant) == 0
    assert stumble(told, context) == {"done": True}


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("gone"), Unavailable("busy"), Temporary("throttled")]
)
def test_temporary_errors_have_one_name(
    told: dict[str, Any], context: Context, error: Exception
) -> None:
    """C-07: state machines retry by the name `Temporary`, so every such error has it."""

    @step
    def lose(command: Command, tx: Transaction) -> Result:
        raise error

    with pytest.raises(Temporary):
        lose(told, context)


def test_a_lock_waited_for_too_long_is_temporary(told: dict[str, Any], context: Context) -> None:
    """C-07: a lock timeout of PostgreSQL is retried."""

    @step
    def wait(command: Command, tx: Transaction) -> Result:
        raise psycopg.errors.LockNotAvailable

    with pytest.raises(Temporary):
        wait(told, context)


def test_an_incomplete_command_is_refused(told: dict[str, Any], context: Context) -> None:
    """C-07: a task without a tenant does nothing and is not retried."""

    @step
    def unreachable(command: Command, tx: Transaction) -> Result:
        raise AssertionError

    del told["tenant_id"]
    with pytest.raises(ValidationError, match="tenant_id"):
        unreachable(told, context)


def test_an_oversized_result_is_refused_with_its_effect(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """C-07: a result over 200 KiB is refused, and nothing of the step commits."""

    @step
    def boast(command: Command, tx: Transaction) -> Result:
        note(tx, 1)
        return BIG

    for _ in range(2):
        with pytest.raises(TooLarge):
            boast(told, context)
    assert notes(database, tenant) == 0
    assert recorded(database, tenant, "boast") is None


# step_with_work -----------------------------------------------------------------------------------


def test_work_is_done_outside_of_transactions(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """C-07: slow work holds no transaction open; the step receives its result."""

    def work(command: Command) -> str:
        with database.transaction(tenant) as tx:
            held = tx.value(
                "select count(*) from pg_stat_activity where usename = 'skald_app'"
                " and xact_start is not null and pid <> pg_backend_pid()"
            )
        return f"{command.saga_id}, {held} held"

    @step_with_work(work)
    def keep(command: Command, tx: Transaction, product: str) -> Result:
        return {"product": product}

    assert keep(told, context) == {"product": "saga, 0 held"}


def test_recorded_work_is_not_repeated(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """C-07: a step with a record does no work again."""
    works: list[int] = []

    def work(command: Command) -> int:
        works.append(1)
        return len(works)

    @step_with_work(work)
    def keep(command: Command, tx: Transaction, product: int) -> Result:
        note(tx, product)
        return {"product": product}

    assert [keep(told, context), keep(told, context)] == [{"product": 1}] * 2
    assert len(works) == 1
    assert notes(database, tenant) == 1


def test_work_may_run_again_but_its_effect_is_once(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """C-07: an attempt that loses the race returns the record of the winner."""
    inner: list[Result] = []

    def work(command: Command) -> int:
        if not inner:
            inner.append({})
            inner[0] = keep(told, context)  # the other attempt commits first
            return 2
        return 1

    @step_with_work(work)
    def keep(command: Command, tx: Transaction, product: int) -> Result:
        note(tx, product)
        return {"product": product}

    assert keep(told, context) == {"product": 1} == inner[0]
    assert notes(database, tenant) == 1


def test_temporary_errors_of_work_have_the_same_name(
    told: dict[str, Any], context: Context
) -> None:
    """C-07: temporary errors outside PostgreSQL are retried by the same name."""

    def work(command: Command) -> None:
        from botocore.exceptions import EndpointConnectionError

        raise EndpointConnectionError(endpoint_url="s3")

    @step_with_work(work)
    def keep(command: Command, tx: Transaction, product: None) -> Result:
        raise AssertionError

    with pytest.raises(Temporary, match="EndpointConnectionError"):
        keep(told, context)


def test_an_oversized_product_is_refused_with_its_effect(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """C-07: the second attempt refuses a result that is too large, too."""

    def work(command: Command) -> Result:
        return BIG

    @step_with_work(work)
    def boast(command: Command, tx: Transaction, product: Result) -> Result:
        note(tx, 1)
        return product

    for _ in range(2):
        with pytest.raises(TooLarge):
            boast(told, context)
    assert notes(database, tenant) == 0


# waiting_step -------------------------------------------------------------------------------------


def test_every_attempt_of_a_waiting_step_runs(
    database: Database, tenant: UUID, told: dict[str, Any], context: Context
) -> None:
    """V-04: a retried wait brings a new token, so it must not answer from its record."""
    runs: list[int] = []

    @waiting_step
    def wait(command: Command, tx: Transaction) -> None:
        runs.append(1)
        note(tx, len(runs))

    assert [wait(told, context), wait(told, context)] == [{}, {}]
    assert notes(database, tenant) == 2


def test_a_waiting_step_names_temporary_errors_too(told: dict[str, Any], context: Context) -> None:
    """C-07: temporary errors have one name, also in a step that waits for a token."""

    @waiting_step
    def wait(command: Command, tx: Transaction) -> None:
        raise psycopg.OperationalError("gone")

    with pytest.raises(Temporary):
        wait(told, context)
