"""The command line of scripts/invoke."""

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from .environment import variables
from .errors import StackError
from .settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient

STACK = "skald"
_LONGEST_FUNCTION_SECONDS = 900


def main() -> int:
    """Invoke one function; return the exit code."""
    arguments = _parser().parse_args()
    try:
        return _invoke(arguments.function, _event(arguments.event or arguments.file))
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
    return parser


def _event(file: str | None) -> bytes:
    """Read and check the event; no file is the empty event, as for sam."""
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


def _invoke(function: str, event: bytes) -> int:
    session, endpoint = _session()
    functions = _deployed_functions(session.client("cloudformation", endpoint_url=endpoint))
    # One attempt: a retry would run the function twice.
    patient = Config(read_timeout=_LONGEST_FUNCTION_SECONDS + 30, retries={"total_max_attempts": 1})
    client = session.client("lambda", endpoint_url=endpoint, config=patient)
    name = functions.get(function, function)
    if name not in functions.values() and not _exists(client, name):
        raise StackError(_unknown(function, functions))
    answer = client.invoke(FunctionName=name, Payload=event, LogType="Tail")
    log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
    print(log.replace("\r", "\n"), end="", file=sys.stderr)
    print(answer["Payload"].read().decode())
    return 1 if "FunctionError" in answer else 0


def _session() -> tuple[boto3.Session, str]:
    values = variables(Settings.from_environment())
    session = boto3.Session(
        aws_access_key_id=values["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
        region_name=values["AWS_DEFAULT_REGION"],
    )
    return session, values["AWS_ENDPOINT_URL"]


def _deployed_functions(client: "CloudFormationClient") -> dict[str, str]:
    """Return physical names by logical id; empty when the stack is not deployed."""
    try:
        resources = client.describe_stack_resources(StackName=STACK)["StackResources"]
    except ClientError:
        return {}
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for resource in resources
        # A resource still being created has no physical id yet.
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
        return f"the stack {STACK} is not deployed: run scripts/demo, or sam build and sam deploy"
    return f"there is no function {function}; there are: {', '.join(sorted(functions))}"


if __name__ == "__main__":
    sys.exit(main())
