"""Lets an update of a function end before its call returns: deployments then need not poll."""

from typing import Any

from localstack.services.lambda_.invocation.lambda_service import LambdaService

_update_version = LambdaService.update_version


def improve() -> None:
    """Replace LocalStack's asynchronous update; with processes there is nothing to wait long for.

    CloudFormation asks for the outcome once a second, which would make every changed function
    cost a second of a deployment.
    """
    LambdaService.update_version = _update_and_wait


def _update_and_wait(self: LambdaService, *args: Any, **kwargs: Any) -> Any:
    update = _update_version(self, *args, **kwargs)
    update.exception()  # waits; a failure is part of the function's state
    return update
