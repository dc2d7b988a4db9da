"""A platform for these tests alone, with its own ports and state folder."""

import base64
import io
import json
import os
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from tests.ports import free_ports

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "platform"))

PROBE = {"probe.py": (Path(__file__).parent / "probe" / "probe.py").read_text()}
_ADDRESSES = ("POSTGRES_DSN", "REDIS_DSN", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class Platform:
    """A state folder with its ports, and the scripts that run on it."""

    state: Path
    settings: Mapping[str, str]

    def run(
        self, script: str, *arguments: str, text: str = "", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run scripts/<script> as a user's shell does; `environ` adds variables."""
        inherited = {name: value for name, value in os.environ.items() if name not in _ADDRESSES}
        return subprocess.run(  # noqa: S603 (our own script)
            [ROOT / "scripts" / script, *arguments],
            env={**inherited, **self.settings, **environ},
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=270,
        )

    def up(self) -> None:
        """Start all parts that are down."""
        outcome = self.run("stack", "up")
        assert outcome.returncode == 0, outcome.stderr

    @cached_property
    def env(self) -> dict[str, str]:
        """The output of `scripts/stack env`."""
        values: dict[str, str] = json.loads(self.run("stack", "env", "--json").stdout)
        return values

    def client(self, service: Any) -> Any:
        """Return an AWS client without retries, so that it shows failures."""
        env = self.env
        return boto3.Session(
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name=env["AWS_DEFAULT_REGION"],
        ).client(
            service,
            endpoint_url=env["AWS_ENDPOINT_URL"],
            config=Config(retries={"total_max_attempts": 1}),
        )

    def pid(self, part: str) -> int:
        """Return the pid in the pid file of a part."""
        return int((self.state / "run" / f"{part}.pid").read_text())


@dataclass(frozen=True)
class Answer:
    """The result of invoking a function."""

    payload: Any
    error: str | None
    log: str


@dataclass(frozen=True)
class Function:
    """A deployed function."""

    name: str
    client: "LambdaClient"

    def __call__(self, event: object = None) -> Answer:
        """Invoke the function and wait for its result."""
        response = self.client.invoke(
            FunctionName=self.name, Payload=json.dumps(event), LogType="Tail"
        )
        return Answer(
            payload=json.load(response["Payload"]),
            error=response.get("FunctionError"),
            log=base64.b64decode(response["LogResult"]).decode(),
        )


type Deploy = Callable[..., Function]


def zipped(files: Mapping[str, str]) -> bytes:
    """Return a zip archive of the files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name, text in files.items():
            target.writestr(name, text)
    return archive.getvalue()


def state_of(pid: int) -> str:
    """Return the state of a process in ps: T if it is stopped, Z or empty if it has ended."""
    listing = subprocess.run(  # noqa: S603 (a fixed program)
        ["/bin/ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return listing.stdout.strip()


def alive(pid: int) -> bool:
    """Whether a process runs. An ended process whose parent has not waited for it does not."""
    return state_of(pid)[:1] not in ("", "Z")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll until the condition holds, for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.02)


def new_platform() -> Platform:
    """Return a platform that is not started yet."""
    # Not pytest's temporary folder: only its owner may enter it, and PostgreSQL may be another
    # user.
    state = ROOT / ".local" / f"test-platform-{uuid.uuid4().hex[:8]}"
    ports = ("SKALD_POSTGRES_PORT", "SKALD_VALKEY_PORT", "SKALD_AWS_PORT")
    settings = dict(zip(ports, map(str, free_ports(len(ports))), strict=True))
    return Platform(state, {**settings, "SKALD_STATE_DIR": str(state)})


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """The platform that all tests share."""
    platform = new_platform()
    try:
        platform.up()
        yield platform
    finally:
        platform.run("stack", "down")
        rmtree(platform.state, ignore_errors=True)


@pytest.fixture
def breakable_platform(platform: Platform) -> Iterator[Platform]:
    """The shared platform, for a test that stops parts of it. All parts run again afterwards."""
    yield platform
    platform.up()


@pytest.fixture
def other_platform() -> Iterator[Platform]:
    """A second platform, as of another checkout. It is not started."""
    platform = new_platform()
    yield platform
    platform.run("stack", "down")
    rmtree(platform.state, ignore_errors=True)


@pytest.fixture
def deploy(platform: Platform) -> Iterator[Deploy]:
    """Create functions. They are deleted after the test."""
    client: LambdaClient = platform.client("lambda")
    names: list[str] = []

    def create(handler: str, files: Mapping[str, str] = PROBE, **settings: Any) -> Function:
        name = f"{handler.rpartition('.')[2].replace('_', '-')}-{uuid.uuid4().hex[:6]}"
        client.create_function(
            FunctionName=name,
            Handler=handler,
            Runtime="python3.13",
            Role="arn:aws:iam::000000000000:role/test",
            Code={"ZipFile": zipped(files)},
            **settings,
        )
        names.append(name)
        wait_until_usable(client, name)
        return Function(name, client)

    yield create
    for name in names:
        # The test may have stopped or restarted LocalStack.
        with suppress(client.exceptions.ResourceNotFoundException, EndpointConnectionError):
            client.delete_function(FunctionName=name)
    client.close()


def wait_until_usable(client: "LambdaClient", name: str) -> None:
    """Wait until a created or updated function accepts invocations."""
    quickly: Any = {"Delay": 0.05, "MaxAttempts": 1_200}
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=quickly)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=quickly)
