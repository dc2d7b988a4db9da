"""Runs LocalStack in its own environment, with our process executor for Lambda functions."""

import json
import shutil
import sys
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from .errors import StackError
from .part import Part, plain_environment, unless_ours
from .process import Daemon
from .settings import HOST, Settings

EXECUTOR = "skald-process"
REGION = "us-east-1"


class LocalStack(Part):
    """LocalStack, which serves the AWS APIs."""

    name = "localstack"
    replaced_by = "AWS_ENDPOINT_URL"
    port_variable = "SKALD_AWS_PORT"
    patience = 60.0
    # A clean shutdown stops each function and takes many seconds. LocalStack keeps no state over a
    # restart, so an early kill loses nothing.
    stop_patience = 1.0

    def __init__(self, settings: Settings) -> None:
        self.port = settings.aws_port
        self._embedded = f"http://{HOST}:{self.port}"
        self.external = unless_ours(settings.own_aws, self._embedded)
        self.data = settings.state / "localstack"
        self.daemon = Daemon(
            settings.run / "localstack.pid",
            settings.logs / "localstack.log",
            marker="localstack.runtime.main",
        )
        self._settings = settings

    @property
    def url(self) -> str:
        """Return the endpoint for AWS clients."""
        return self.external or self._embedded

    @property
    def endpoint(self) -> str:
        return urlsplit(self.url).netloc

    def launch(self) -> None:
        python = self._settings.environments / "localstack-venv" / "bin" / "python"
        # LocalStack keeps no state over a restart; old files only take space.
        shutil.rmtree(self.data, ignore_errors=True)
        (self.data / "tmp").mkdir(parents=True)
        self.daemon.launch([python, "-m", "localstack.runtime.main"], self._environment())

    def answers(self) -> bool:
        return _get(f"{self.url}/_localstack/health") is not None

    def finish(self) -> None:
        """Raise StackError unless our executor runs the functions."""
        # LocalStack uses Docker without a message if it does not find our executor.
        if self.external:
            return
        answer = _get(f"{self.url}/_skald/executor")
        if answer is None or json.loads(answer).get("executor") != EXECUTOR:
            raise StackError("LocalStack runs but did not load the process executor for Lambda")

    def stop(self) -> bool:
        """Stop LocalStack and wait until its guardian has ended every function's process."""
        ran = super().stop()
        pid_file = self.data / "lambda" / "guardian.pid"
        Daemon(pid_file, self.daemon.log_file, marker="guardian.py").gone_within(5)
        return ran

    def _environment(self) -> dict[str, str]:
        address = f"{HOST}:{self.port}"
        return plain_environment(
            {
                "GATEWAY_LISTEN": address,
                # Addresses in responses, for example queue URLs, have this host and port.
                "LOCALSTACK_HOST": address,
                "SQS_ENDPOINT_STRATEGY": "path",
                # In a dev container, LocalStack would assume that it runs in its own image.
                "OVERRIDE_IN_DOCKER": "0",
                "FILESYSTEM_ROOT": str(self.data),
                "TEMP": str(self.data / "tmp"),
                "XDG_CACHE_HOME": str(self.data / "cache"),
                # LocalStack must not use the network: no DNS server, certificates, usage events.
                "DNS_ADDRESS": "0",
                "SKIP_SSL_CERT_DOWNLOAD": "1",
                "DISABLE_EVENTS": "1",
                "SQS_DISABLE_CLOUDWATCH_METRICS": "1",
                "LAMBDA_RUNTIME_EXECUTOR": EXECUTOR,
                "LAMBDA_KEEPALIVE_MS": "600000",
                # Retry an asynchronous invocation after one second; AWS waits one minute.
                "LAMBDA_RETRY_BASE_DELAY": "1",
                # Our event sources wait inside ReceiveMessage, so they need no pause between polls.
                "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0",
                "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "0.1",
                "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_ERROR_SEC": "2",
                # CloudFormation checks a new function this often before it sleeps for a second.
                "CFN_NO_WAIT_ITERATIONS": "100",
                **self._executor_environment(),
            }
        )

    def _executor_environment(self) -> dict[str, str]:
        environments = self._settings.environments
        return {
            "PYTHONPATH": str(self._settings.root / "scripts" / "platform"),
            "SKALD_LAMBDA_PYTHON": getattr(sys, "_base_executable", sys.executable),
            "SKALD_LAMBDA_RUNTIME": str(environments / "lambda-runtime"),
            "SKALD_LAMBDA_LOGS": str(self._settings.lambda_logs),
            "SKALD_LAMBDA_WORK": str(self.data / "lambda"),
            "SKALD_LAMBDA_FREEZE": "1" if self._settings.freeze else "0",
        }


def _get(url: str) -> bytes | None:
    try:
        with urlopen(url, timeout=2) as response:  # noqa: S310 (the address is ours or the user's)
            body: bytes = response.read()
            return body
    except (URLError, TimeoutError, ConnectionError):
        return None
