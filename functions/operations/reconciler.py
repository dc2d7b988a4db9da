"""Repairs the sagas of all contexts: recovers dead ones, answers forgotten waits (G-07)."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from operations.contexts import contexts
from skald.aws import client
from skald.context import SagaKind
from skald.entrypoints.schedule import schedule
from skald.fanout import gate
from skald.postgres import database, lookout
from skald.saga import signals
from skald.saga.reconciler import Death, Reconciler, Recovery, find_silent


@schedule
def reconcile(is_time_left: Callable[[], bool]) -> dict[str, Any]:
    """Recover dead sagas, then answer the steps that a crash left waiting (G-07, G-14, V-06).

    These steps wait for a signal, or for a fan-out whose tasks have all ended.
    """
    with lookout().transaction(None) as tx:
        silent = find_silent(tx)
    reconciler = Reconciler(database(), client("stepfunctions"), _recoveries())
    recovered = 0
    for saga in silent:
        if not is_time_left():
            break
        recovered += reconciler.reconcile(saga) is not None
    answered = signals.deliver_forgotten(lookout(), database()) if is_time_left() else 0
    gates = gate.sweep(is_time_left)
    return {"silent": len(silent), "recovered": recovered, "answered": answered, **gates}


def _recoveries() -> dict[str, Recovery]:
    return {name: _by_compensation(kind) for name, kind in contexts().sagas.items()}


def _by_compensation(kind: SagaKind) -> Recovery:
    """Return a recovery that runs the saga's compensation, which is a step and so runs once."""

    def recover(death: Death) -> None:
        error = {"Error": death.error, "Cause": death.cause}
        kind.compensate()(death.command | {"error": error}, LambdaContext())

    return recover
