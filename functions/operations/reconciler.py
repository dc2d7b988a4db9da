"""Compensates sagas whose execution died without a word; the one place that knows every saga."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from batches import domain, steps
from skald.aws import client
from skald.entrypoints.schedule import schedule
from skald.entrypoints.step import StepHandler
from skald.postgres import database, lookout
from skald.saga.reconciler import Death, Reconciler, Recovery, find_silent


@schedule
def reconcile(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Look at every saga that nothing was heard of, and recover the dead (G-07)."""
    with lookout().transaction(None) as tx:
        silent = find_silent(tx)
    reconciler = Reconciler(database(), client("stepfunctions"), RECOVERIES)
    recovered = 0
    for saga in silent:
        if not is_time_left():
            break
        recovered += reconciler.reconcile(saga) is not None
    return {"silent": len(silent), "recovered": recovered}


def _by_compensation(compensate: StepHandler) -> Recovery:
    """Run the state that the dead execution did not reach; a step of its log, it acts once."""

    def recover(death: Death) -> None:
        error = {"Error": death.error, "Cause": death.cause}
        compensate(death.command | {"error": error}, LambdaContext())

    return recover


RECOVERIES = {domain.SAGA: _by_compensation(steps.compensate)}
