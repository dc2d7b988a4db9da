"""The plugin that connects the executor to LocalStack."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from localstack import config
from localstack.aws.api.lambda_ import RequestTooLargeException
from localstack.http import Response
from localstack.runtime import events, hooks
from localstack.services.edge import ROUTER
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import (
    RuntimeExecutor,
    get_runtime_executor,
)

from . import activity, event_sources, states, updates
from .folders import kept
from .guardian import Guardian
from .process import Function, Platform
from .sandbox import Sandbox

_HOST = "127.0.0.1"


@cache
def _platform() -> Platform:
    work = Path(os.environ["SKALD_LAMBDA_WORK"])
    return Platform(
        python=os.environ["SKALD_LAMBDA_PYTHON"],
        runtime=Path(os.environ["SKALD_LAMBDA_RUNTIME"]),
        logs=Path(os.environ["SKALD_LAMBDA_LOGS"]),
        work=work,
        guardian=Guardian(work / "guardian.pid"),
        freeze=os.environ.get("SKALD_LAMBDA_FREEZE") != "0",
    )


class ProcessExecutor(RuntimeExecutor):  # type: ignore[misc] # LocalStack has no types
    """One execution environment, with the interface that LocalStack expects."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id, function_version)
        self._sandbox: Sandbox | None = None

    def start(self, env_vars: dict[str, Any]) -> None:
        """Start the process; an error in its initialisation appears in the first invocation."""
        function = _describe(self.function_version, env_vars)
        self._sandbox = Sandbox(self.id, function, _platform())
        self._sandbox.start()

    def stop(self) -> None:
        """Stop the process; as on AWS, a running invocation of replaced code may finish."""
        if self._sandbox:
            shutting_down = events.infra_stopping.is_set()
            patience = 0 if shutting_down else self.function_version.config.timeout
            self._sandbox.stop(patience)

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Run the function on one event."""
        if self._sandbox is None:
            raise RuntimeError("the environment was not started")
        body = payload["payload"].encode()
        _require_allowed_size(body)
        request_id = payload["invoke-id"]
        outcome, logs = self._sandbox.invoke(
            request_id, body, payload["invoked-function-arn"], payload["trace-id"]
        )
        return InvocationResult(request_id, outcome.payload, bool(outcome.error_type), logs)

    def get_address(self) -> str:
        """Return the host of the process."""
        return _HOST

    def get_endpoint_from_executor(self) -> str:
        """Return the host at which the process reaches LocalStack."""
        return _HOST

    def get_runtime_endpoint(self) -> str:
        """Return LocalStack's own callback address, which our processes do not use."""
        return f"http://{_HOST}:{config.GATEWAY_LISTEN[0].port}"

    def get_logs(self) -> str:
        """Return an empty text, because each invocation has returned its own log."""
        return ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unzip the code and the layers."""
        function_version.config.code.prepare_for_execution()
        _code(function_version)
        for layer in function_version.config.layers:
            layer.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Do nothing; the next start of LocalStack deletes what was prepared."""


class ProcessExecutorPlugin(RuntimeExecutorPlugin):  # type: ignore[misc] # LocalStack has no types
    """LocalStack finds this plugin by the entry point of this name."""

    name = "skald-process"

    def load(self, *_args: object, **_kwargs: object) -> type[ProcessExecutor]:
        """Return the executor class."""
        return ProcessExecutor


def _status(plugin: str) -> dict[str, Any]:
    running, polling = activity.RUNNING.counts(), activity.POLLING.counts()
    return {"executor": plugin, "running": running, "polling": polling}


@hooks.on_infra_start()  # type: ignore[untyped-decorator] # LocalStack has no types
def prepare_localstack() -> None:
    """Serve the executor's status to scripts/stack, and apply the patches of this package."""
    plugin = "skald-process" if get_runtime_executor() is ProcessExecutor else "another"
    ROUTER.add("/_skald/executor", lambda _request: Response.for_json(_status(plugin)))
    _platform()
    activity.observe()
    event_sources.improve()
    states.improve()
    updates.improve()


def _describe(version: FunctionVersion, env_vars: dict[str, Any]) -> Function:
    settings = version.config
    lambda_only = {
        name: str(value)
        for name, value in env_vars.items()
        if not name.startswith("LOCALSTACK_")
        and name not in {"EDGE_PORT", "AWS_LAMBDA_FUNCTION_TIMEOUT"}
    }
    return Function(
        name=version.id.function_name,
        version=version.id.qualifier,
        timeout=settings.timeout,
        memory_mb=settings.memory_size,
        code=_code(version),
        layers=tuple(layer.code.get_unzipped_code_location() for layer in settings.layers),
        variables=lambda_only | (settings.environment or {}),
        max_payload=config.LAMBDA_LIMITS_MAX_FUNCTION_PAYLOAD_SIZE_BYTES,
    )


def _code(version: FunctionVersion) -> Path:
    return kept(version.config.code.get_unzipped_code_location(), _platform().work / "code")


def _require_allowed_size(body: bytes) -> None:
    limit = config.LAMBDA_LIMITS_MAX_FUNCTION_PAYLOAD_SIZE_BYTES
    if len(body) > limit:
        raise RequestTooLargeException(
            f"{len(body)} byte payload is too large for the RequestResponse invocation type "
            f"(limit {limit} bytes)"
        )
