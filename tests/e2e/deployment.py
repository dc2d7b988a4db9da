"""A deployed platform for these tests, and tools to look into it."""

import base64
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any, LiteralString
from uuid import UUID

import boto3
import psycopg
import requests
from botocore.config import Config
from psycopg.rows import dict_row
from stack.environment import variables
from stack.settings import Settings
from tests.ports import free_ports
from tests.toy.workspace import copy_with_toy

ROOT = Path(__file__).parents[2]
STACK = "skald"
_ADDRESSES = ("POSTGRES_DSN", "REDIS_DSN", "AWS_ENDPOINT_URL")
_PORTS = ("SKALD_POSTGRES_PORT", "SKALD_VALKEY_PORT", "SKALD_AWS_PORT")

type Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """The result of invoking a function; `error` is None when it returned."""

    payload: Any
    error: str | None
    log: str


def wait_for[T](what: str, look: Callable[[], T | None], seconds: float = 60.0) -> T:
    """Poll until there is a result and return it. The failure names what is missing."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"within {seconds:g} s there was no {what}; last: {found!r}")
        time.sleep(0.02)


class Deployment:
    """The template, deployed to a platform; `environ` are the variables for scripts.

    `root` is the checkout that is deployed, with the scripts that are run.
    """

    def __init__(self, environ: Mapping[str, str], root: Path = ROOT) -> None:
        self._root = root
        inherited = {name: value for name, value in os.environ.items() if name not in _ADDRESSES}
        self.environ = {**inherited, **environ, "SKALD_ROOT": str(root)}
        self.settings = Settings.from_environment(self.environ)

    @cached_property
    def values(self) -> dict[str, str]:
        """The output of `scripts/stack env`."""
        return variables(self.settings)

    # Its servers and scripts ---------------------------------------------------------------------

    def run(
        self,
        script: str,
        *arguments: str,
        text: str = "",
        seconds: float = 270,
    ) -> subprocess.CompletedProcess[str]:
        """Run scripts/<script> as a user's shell does; `root` is its checkout."""
        return subprocess.run(  # noqa: S603 (our own script)
            [self._root / "scripts" / script, *arguments],
            env=self.environ,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def must_run(self, script: str, *arguments: str) -> None:
        done = self.run(script, *arguments)
        if done.returncode:
            raise RuntimeError(f"scripts/{script} {' '.join(arguments)}: {done.stderr}")

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}

    def client(self, service: Any) -> Any:
        """Return the AWS client of a service, without retries, which could repeat an effect."""
        if service not in self._clients:
            session = boto3.Session(
                aws_access_key_id=self.values["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=self.values["AWS_SECRET_ACCESS_KEY"],
                region_name=self.values["AWS_DEFAULT_REGION"],
            )
            self._clients[service] = session.client(
                service,
                endpoint_url=self.values["AWS_ENDPOINT_URL"],
                config=Config(
                    retries={"total_max_attempts": 1},
                    read_timeout=200,
                    max_pool_connections=32,
                    s3={"addressing_style": "path"},
                ),
            )
        return self._clients[service]

    @cached_property
    def _database(self) -> psycopg.Connection[dict[str, Any]]:
        dsn = self.values["POSTGRES_DSN"]
        return psycopg.connect(dsn, autocommit=True, row_factory=dict_row)

    def sql(self, query: LiteralString, *parameters: Any) -> Rows:
        """Run a statement as the database's administrator, who sees every tenant."""
        cursor = self._database.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Close the connections of this object; the platform stays."""
        if "_database" in self.__dict__:
            self._database.close()
        for client in self._clients.values():
            client.close()

    # Deployed resources --------------------------------------------------------------------------

    @cached_property
    def resources(self) -> dict[str, str]:
        """Physical ids by the logical ids of the template."""
        answer = self.client("cloudformation").describe_stack_resources(StackName=STACK)
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in answer["StackResources"]
        }

    @property
    def api_url(self) -> str:
        return f"{self.values['AWS_ENDPOINT_URL']}/_aws/execute-api/{self.resources['Api']}/local"

    def invoke(self, function: str, event: object) -> Answer:
        """Invoke a function by its logical id and wait for its result."""
        response = self.client("lambda").invoke(
            FunctionName=self.resources[function], Payload=json.dumps(event), LogType="Tail"
        )
        return Answer(
            payload=json.load(response["Payload"]),
            error=response.get("FunctionError"),
            log=base64.b64decode(response["LogResult"]).decode(),
        )

    # Queues --------------------------------------------------------------------------------------

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """Return the bodies of all messages of a queue without receiving one."""
        url = f"{self.values['AWS_ENDPOINT_URL']}/_aws/sqs/messages"
        answer = requests.get(
            url,
            params={"QueueUrl": self.resources[queue], "ShowInvisible": "true"},
            headers={"Accept": "application/json"},
            timeout=30,
        )
        answer.raise_for_status()
        result = answer.json()["ReceiveMessageResponse"]["ReceiveMessageResult"] or {}
        messages = result.get("Message", [])
        return [
            json.loads(m["Body"]) for m in ([messages] if isinstance(messages, dict) else messages)
        ]

    def send(self, queue: str, body: object) -> None:
        self.client("sqs").send_message(
            QueueUrl=self.resources[queue], MessageBody=json.dumps(body)
        )

    def events(self, batch_id: UUID, event_type: str) -> list[dict[str, Any]]:
        """Return the events of a batch that were sent to the outside."""
        return [
            event
            for event in self.messages("EventsQueue")
            if event["event_type"] == event_type and event["target_id"] == str(batch_id)
        ]

    def is_empty(self, queue: str) -> bool:
        # LocalStack lists in-flight messages, then visible ones: the second list has those that
        # moved.
        return not self.messages(queue) and not self.messages(queue)

    @contextmanager
    def visibility(self, queue: str, mapping: str, seconds: int) -> Iterator[None]:
        """Make an unfinished message visible again after so many seconds."""
        sqs, url = self.client("sqs"), self.resources[queue]
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
        with self.paused(mapping):  # a poll keeps its first timeout
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})
        try:
            yield
        finally:
            sqs.set_queue_attributes(QueueUrl=url, Attributes=before["Attributes"])

    @contextmanager
    def paused(self, mapping: str) -> Iterator[None]:
        """Stop the event source of a function for the block. Its received messages are done."""
        functions, source = self.client("lambda"), self.resources[mapping]
        functions.update_event_source_mapping(UUID=source, Enabled=False)
        wait_for(f"end of {mapping}", lambda: source not in self.activity()["polling"])
        try:
            yield
        finally:
            functions.update_event_source_mapping(UUID=source, Enabled=True)

    @contextmanager
    def throttled(self, function: str) -> Iterator[None]:
        """Let no invocation of a function begin, from any caller. The running ones have ended."""
        functions, name = self.client("lambda"), self.resources[function]
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        wait_for(f"end of {function}", lambda: name not in self.activity()["running"])
        try:
            yield
        finally:
            functions.delete_function_concurrency(FunctionName=name)

    @contextmanager
    def configured(self, function: str, **variables: str) -> Iterator[None]:
        """Give a function other environment variables for the block."""
        functions, name = self.client("lambda"), self.resources[function]

        def configuration() -> Any:
            return functions.get_function_configuration(FunctionName=name)

        def configure(environment: Mapping[str, str]) -> None:
            functions.update_function_configuration(
                FunctionName=name, Environment={"Variables": environment}
            )
            wait_for(
                f"updated {function}", lambda: configuration()["LastUpdateStatus"] == "Successful"
            )

        before = configuration()["Environment"]["Variables"]
        configure(before | variables)
        try:
            yield
        finally:
            configure(before)

    def activity(self) -> dict[str, dict[str, int]]:
        """Return how many invocations of functions and polls of event sources are running."""
        answer = requests.get(f"{self.values['AWS_ENDPOINT_URL']}/_skald/executor", timeout=30)
        answer.raise_for_status()
        under_way: dict[str, dict[str, int]] = answer.json()
        return under_way

    # Pipelines -----------------------------------------------------------------------------------

    def execution(self, batch_id: UUID) -> dict[str, Any]:
        """Describe the pipeline of a batch."""
        machine = self.resources["BatchPipeline"]
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{batch_id}"
        described: dict[str, Any] = self.client("stepfunctions").describe_execution(
            executionArn=arn
        )
        return described

    def executions(self, batch_id: UUID) -> int:
        """Count the pipelines that were started for a batch."""
        pages = (
            self.client("stepfunctions")
            .get_paginator("list_executions")
            .paginate(stateMachineArn=self.resources["BatchPipeline"])
        )
        return sum(e["name"] == str(batch_id) for page in pages for e in page["executions"])

    def states(self, batch_id: UUID) -> list[str]:
        """Return the states that a pipeline has entered, in order."""
        return [entered["name"] for entered in self.history(batch_id, "stateEnteredEventDetails")]

    def task_errors(self, batch_id: UUID) -> list[str]:
        """Return the names of the errors with which a pipeline's tasks ended."""
        return [failed["error"] for failed in self.history(batch_id, "taskFailedEventDetails")]

    def history(self, batch_id: UUID, details: str) -> list[dict[str, Any]]:
        """Return the details of this kind from all events of a pipeline."""
        pages = (
            self.client("stepfunctions")
            .get_paginator("get_execution_history")
            .paginate(executionArn=self.execution(batch_id)["executionArn"])
        )
        return [event[details] for page in pages for event in page["events"] if details in event]

    # Artifacts -----------------------------------------------------------------------------------

    def stored(self, bucket: str, prefix: str) -> list[str]:
        """Return the keys below a prefix."""
        pages = (
            self.client("s3")
            .get_paginator("list_objects_v2")
            .paginate(Bucket=self.resources[bucket], Prefix=prefix)
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, bucket: str, key: str) -> bytes:
        body: bytes = (
            self.client("s3").get_object(Bucket=self.resources[bucket], Key=key)["Body"].read()
        )
        return body

    # Processes -----------------------------------------------------------------------------------

    def workers(self, function: str) -> list[int]:
        """Return the pids of a function's processes that are working; idle ones are frozen."""
        localstack = int((self.settings.run / "localstack.pid").read_text())
        name = f"AWS_LAMBDA_FUNCTION_NAME={self.resources[function]}\0".encode()
        return [
            pid
            for pid, parent, state in _processes()
            if parent == localstack and state not in "TZ" and name in _environment(pid)
        ]

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a function's process group, as the executor does."""
        os.killpg(pid, number)


def _processes() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(folder.name), int(fields[1]), fields[0]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@cache
def deployed() -> Deployment:
    """Return the platform that all tests of this run share; the first use starts and deploys it.

    The deployment has the toy context too, so that there is only one stack. With
    `SKALD_TEST_STACK=running` it is the platform of your shell's variables.
    """
    if os.environ.get("SKALD_TEST_STACK") == "running":
        return Deployment({})
    state = ROOT / ".local" / f"e2e-{uuid.uuid4().hex[:6]}"
    ports = dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True))
    source = state / "source"
    # What is linked is not copied, so that no layer and no environment is built again.
    copy_with_toy(source, linked=(".local", ".aws-sam", "layers"))
    deployment = Deployment({**ports, "SKALD_STATE_DIR": str(state)}, source)
    try:
        deployment.must_run("stack", "up")
        deployment.must_run("deploy", "local")
    except BaseException:
        stop(deployment, keep=True)
        raise
    return deployment


def stop(deployment: Deployment, *, keep: bool) -> None:
    """Stop what `deployed` has started; `keep` leaves its logs for reading."""
    deployment.close()
    if os.environ.get("SKALD_TEST_STACK") != "running":
        deployment.run("stack", "down")
        if not keep:
            rmtree(deployment.settings.state, ignore_errors=True)
