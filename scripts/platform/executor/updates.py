"""Makes updates of functions synchronous, so that deployments need not poll for their end."""

from typing import Any

from localstack.services.lambda_.invocation.lambda_service import LambdaService

_update_version = LambdaService.update_version


def improve() -> None:
    """Patch LocalStack's asynchronous update; with processes, an update is fast.

    CloudFormation asks for the outcome once a second, so each changed function would add a second
    to a deployment.
    """
    LambdaService.update_version = _update_and_wait


def _update_and_wait(self: LambdaService, *args: Any, **kwargs: Any) -> Any:
    update = _update_version(self, *args, **kwargs)
    update.exception()  # waits; a failure is part of the function's state
    return update
