"""Repairs the sagas of all contexts: compensates dead ones, delivers forgotten signals (G-07)."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from operations.contexts import contexts
from skald.aws import client
from skald.context import SagaKind
from skald.entrypoints.schedule import schedule
from skald.postgres import database, lookout
from skald.saga import signals
from skald.saga.reconciler import Death, Reconciler, Recovery, find_silent


@schedule
def reconcile(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Recover dead sagas, then wake steps whose signals a crash left behind (G-07, G-14)."""
    with lookout().transaction(None) as tx:
        silent = find_silent(tx)
    reconciler = Reconciler(database(), client("stepfunctions"), _recoveries())
    recovered = 0
    for saga in silent:
        if not is_time_left():
            break
        recovered += reconciler.reconcile(saga) is not None
    answered = signals.deliver_forgotten(lookout(), database()) if is_time_left() else 0
    return {"silent": len(silent), "recovered": recovered, "answered": answered}


def _recoveries() -> dict[str, Recovery]:
    return {name: _by_compensation(kind) for name, kind in contexts().sagas.items()}


def _by_compensation(kind: SagaKind) -> Recovery:
    """Run the compensation that the dead execution did not reach; as a step it acts once."""

    def recover(death: Death) -> None:
        error = {"Error": death.error, "Cause": death.cause}
        kind.compensate()(death.command | {"error": error}, LambdaContext())

    return recover
