"""The command line of scripts/invoke."""

import argparse
import base64
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from .environment import session, variables
from .errors import StackError
from .settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient

type Clients = Callable[..., Any]

STACK = "skald"
_LONGEST_FUNCTION_SECONDS = 900


def main() -> int:
    """Invoke one function; return the exit code."""
    arguments = _parser().parse_args()
    try:
        event = _event(arguments.event or arguments.file)
        return _invoke(_account() if arguments.aws else _platform(), arguments.function, event)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
    except EndpointConnectionError:
        print("error: the platform is not up: run scripts/stack up", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/invoke",
        description="Invoke a deployed function: log to stderr, result to stdout.",
        epilog="Exit code 1 when the function failed. Without Docker, this is what "
        "`sam local invoke FUNCTION -e events/x.json` does.",
    )
    parser.add_argument("function", metavar="FUNCTION", help="logical id in template.yaml, or name")
    parser.add_argument("file", nargs="?", help="JSON file with the event; - for standard input")
    parser.add_argument("-e", "--event", metavar="FILE", help="the same, as an option")
    parser.add_argument("--aws", action="store_true", help="in the AWS account of your shell")
    return parser


def _event(file: str | None) -> bytes:
    """Return the event as JSON; without a file it is the empty event, as for sam.

    Raises `StackError` if the file cannot be read or is not JSON.
    """
    if file is None:
        return b"{}"
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        json.loads(text)
    except OSError as error:
        raise StackError(f"the event cannot be read: {error}") from error
    except ValueError as error:
        raise StackError(f"{file} is not JSON: {error}") from error
    return text.encode()


def _platform() -> Clients:
    settings = Settings.from_environment()
    endpoint = variables(settings)["AWS_ENDPOINT_URL"]
    return partial(session(settings).client, endpoint_url=endpoint)


def _account() -> Clients:
    import boto3

    return boto3.Session().client


def _invoke(client_of: Clients, function: str, event: bytes) -> int:
    functions = _deployed_functions(client_of("cloudformation"))
    # There is one attempt, because a retry would run the function twice.
    patient = Config(read_timeout=_LONGEST_FUNCTION_SECONDS + 30, retries={"total_max_attempts": 1})
    client = client_of("lambda", config=patient)
    name = functions.get(function, function)
    if name not in functions.values() and not _exists(client, name):
        raise StackError(_unknown(function, functions))
    answer = client.invoke(FunctionName=name, Payload=event, LogType="Tail")
    log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
    print(log.replace("\r", "\n"), end="", file=sys.stderr)
    print(answer["Payload"].read().decode())
    return 1 if "FunctionError" in answer else 0


def _deployed_functions(client: "CloudFormationClient") -> dict[str, str]:
    """Return physical names by logical id; empty when the stack is not deployed."""
    try:
        resources = client.describe_stack_resources(StackName=STACK)["StackResources"]
    except ClientError:
        return {}
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for resource in resources
        # A resource that is still being created has no physical id yet.
        if resource["ResourceType"] == "AWS::Lambda::Function" and "PhysicalResourceId" in resource
    }


def _exists(client: "LambdaClient", name: str) -> bool:
    try:
        client.get_function(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        return False
    return True


def _unknown(function: str, functions: dict[str, str]) -> str:
    if not functions:
        return f"the stack {STACK} is not deployed: run scripts/deploy"
    return f"there is no function {function}; there are: {', '.join(sorted(functions))}"


if __name__ == "__main__":
    sys.exit(main())
